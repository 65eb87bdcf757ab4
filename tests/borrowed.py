"""Plugins of one's own, registered for a while."""

import sys
from collections.abc import Sequence
from contextlib import contextmanager

import pytest
import torch
from hydra.core.config_store import ConfigStore

from research import registry


@contextmanager
def borrowed(words: Sequence[str]):
    """Register what modules or files hold as a user does, and forget all that is new afterwards: kind -> names."""
    registry.load_plugins()
    before = set(registry._names)
    broken, threads = dict(registry.broken), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path])
        patch.setenv("HARK_PLUGINS", ",".join(map(str, words)))
        registry.load_plugins()
        added = set(registry._names) - before
        yield {kind: sorted(name for k, name in added if k == kind) for kind in registry.KINDS}
    torch.set_num_threads(threads)
    for kind, name in set(registry._names) - before:
        sys.modules.pop(registry.find(kind, name).__module__, None)
        del registry._names[kind, name]
        del ConfigStore.instance().repo[kind][f"{name}.yaml"]
    registry.broken.clear()
    registry.broken.update(broken)
