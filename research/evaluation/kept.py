"""Features that were computed before, in the user's cache folder: the same numbers, to the bit.

What a file is called says all that decides what is in it: the weights and configs of the modules, the code that runs
them, the layers, every sample of the audio, in its order, and the kind of device. The files used last are kept.
"""

import hashlib
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from research.contracts import Frontend
from research.data.cached import cached, keep
from research.downstream import Features
from research.evaluation import features
from research.evaluation.speech import Speech
from research.model import Upstream

LIMIT = 4_000_000_000  # bytes of all files

log = logging.getLogger(__name__)
Frames = list[list[Tensor]]  # per layer, per utterance (T, D)


class Kept:
    """Computes features, or takes them out of the cache; `folder` None: there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    @classmethod
    def here(cls) -> "Kept":
        return cls(cached("features", Path(), "").parent)

    def encode(
        self, upstream: Upstream, speech: Speech, layers: Sequence[int] | None = None
    ) -> dict[int, Features]:
        """See `features.encode`."""
        wanted = list(upstream.layers if layers is None else layers)
        made = self.get(
            name_of(upstream, wanted, speech, upstream.device.type),
            lambda: [found.frames for found in features.encode(upstream, speech, wanted).values()],
        )
        pairs = zip(wanted, made, strict=True)
        return {layer: features.about(speech, frames, upstream.period) for layer, frames in pairs}

    def frontend(self, frontend: Frontend, speech: Speech) -> Features:
        """See `features.frontend_features`."""
        (frames,) = self.get(
            name_of(frontend, [], speech, "cpu"),
            lambda: [features.frontend_features(frontend, speech).frames],
        )
        return features.about(speech, frames, frontend.hop / frontend.sample_rate)

    def get(self, name: str, compute: Callable[[], Frames]) -> Frames:
        if self.folder is None:
            return compute()
        file = self.folder / f"{name}.pt"
        found = read(file)
        if found is None:
            found = compute()
            if sum(x.nbytes for layer in found for x in layer) < LIMIT:
                lengths = [len(x) for x in found[0]]
                packed = {
                    "lengths": lengths,
                    "layers": [torch.cat(layer) for layer in found],
                }  # each (sum of T, D)
                keep(file, lambda out: torch.save(packed, out))
                prune(self.folder)
        return found


def read(file: Path) -> Frames | None:
    """What was kept; None: nothing, or it is damaged."""
    try:
        packed = torch.load(file, weights_only=True)
        os.utime(file)  # used last
        return [list(layer.split(packed["lengths"])) for layer in packed["layers"]]
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        log.warning("%s: is damaged, and computed again (%s)", file, type(error).__name__)
        return None


def prune(folder: Path, limit: int = LIMIT) -> None:
    """Remove what was used longest ago until the rest takes no more than `limit` bytes."""
    files = []
    for file in folder.glob("*.pt"):
        with suppress(FileNotFoundError):  # another process removed it
            facts = file.stat()
            files.append((facts.st_mtime_ns, facts.st_size, file))
    size = sum(taken for _, taken, _ in files)
    for _, taken, file in sorted(files):
        if size <= limit:
            break
        size -= taken
        file.unlink(missing_ok=True)


def name_of(module: nn.Module, layers: Sequence[int], speech: Speech, device: str) -> str:
    """SHA-256 of all that decides features."""
    found = hashlib.sha256(f"{torch.__version__} {device} {features.BATCH} {list(layers)}".encode())
    for part in module.modules():
        found.update(f"{type(part).__qualname__} {getattr(part, 'cfg', None)}".encode())
    classes = {cls for part in module.modules() for cls in type(part).__mro__}
    for file in code({cls.__module__ for cls in classes} | {features.__name__}):
        found.update(sha256(file))
    for name, value in module.state_dict().items():
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(raw(value))
    for x in speech.audio:
        found.update(len(x).to_bytes(8))
        found.update(raw(x))
    return found.hexdigest()


def raw(x: Tensor) -> memoryview:
    return x.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data


def code(modules: Iterable[str]) -> list[Path]:
    """Files of some modules, and of those of ours that they take functions and classes from; torch has a version."""
    todo, found = list(modules), dict[str, Path]()
    while todo:
        name = todo.pop()
        values = vars(sys.modules[name]) if name in sys.modules else {}
        if name in found or name.startswith("torch.") or not values.get("__file__"):
            continue
        found[name] = Path(values["__file__"])
        used = {
            value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
            for value in values.values()
        }
        todo += [each for each in used if each.startswith("research.")]
    return [found[name] for name in sorted(found)]


@cache
def sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
