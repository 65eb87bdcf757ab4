"""Stored features -> tensors. `hark extract` writes them; a reader maps them into memory and copies what it takes.

A store is a folder:
  features.json    what everything in it has in common, and where it came from
  features.jsonl   the manifest: the lines of the audio's, with feature_path (a shard) and feature_key (a tensor in it)
  labels.jsonl     a manifest of the audio with label_path and label_key, where frames have k-means ids
  shards/          safetensors: features (L, T, D), or (L, D) when pooled; ids (T,)
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from research.data.audio import UndecodableError
from research.data.manifest import Manifest
from research.errors import HarkError

FACTS = "features.json"
MANIFEST, LABELS = "features.jsonl", "labels.jsonl"


@dataclass(frozen=True)
class Layout:
    """What the features of a manifest have in common."""

    weights: str  # SHA-256 of the model's
    layers: tuple[int, ...]  # as stored
    depth: int  # of the encoder
    dim: int  # D
    period: float  # s from frame to frame
    sample_rate: int  # Hz, of the audio
    pool: str | None  # how the frames of an utterance became one; None: they did not

    @property
    def width(self) -> int:
        """L * D."""
        return len(self.layers) * self.dim


def layout(manifest: Manifest) -> Layout:
    """Give the layout of a manifest of features; HarkError when it is one of audio, or of stores that differ."""
    if not manifest.stored:
        raise HarkError(f"{manifest.sources[0].path}: its lines name no features; see `hark extract`")
    first, *others = (source.path.parent / FACTS for source in manifest.sources)
    found = read_layout(first)
    for other in others:
        if read_layout(other) != found:
            raise HarkError(f"{other}: describes other features than {first}; extract both alike")
    return found


def read_layout(path: Path) -> Layout:
    try:
        facts = json.loads(path.read_text())
        values = {item.name: facts[item.name] for item in fields(Layout)}
    except OSError as error:
        raise HarkError(f"{path}: cannot be read ({error.strerror}); it belongs to the features") from None
    except (ValueError, KeyError, TypeError) as error:
        raise HarkError(f"{path}: does not describe features ({error})") from None
    return Layout(**values | {"layers": tuple(values["layers"])})


def read(line: Mapping[str, Any], folder: str | Path) -> Tensor:
    """Features (L, T, D) of a line of a manifest in `folder`, in the dtype that is stored; T is 1 when pooled.

    Memory-mapped: only what is used is read. UndecodableError when shard or key are missing or damaged.
    """
    x = tensor(os.path.join(folder, line["feature_path"]), line["feature_key"])  # noqa: PTH118  faster than Path
    return x if x.ndim == 3 else x[:, None]  # (L, T, D)


def read_labels(line: Mapping[str, Any], folder: str | Path) -> Tensor:
    """k-means ids (T, 1), int64, of a line of a manifest in `folder`; UndecodableError as `read`."""
    return tensor(os.path.join(folder, line["label_path"]), line["label_key"]).long()[:, None]  # noqa: PTH118


def frames(manifest: Manifest, i: int) -> Tensor:
    """The layers of utterance `i` side by side: (T, L * D), fp32."""
    x = read(manifest.extra(i), manifest.folder(i))  # noqa: S610  not Django's
    return x.transpose(0, 1).flatten(1).float()  # (T, L D)


def tensor(path: str, key: str) -> Tensor:
    try:
        found: Tensor = opened(path, os.stat(path).st_mtime_ns).get_tensor(key)  # noqa: PTH116
    except (OSError, SafetensorError) as error:
        raise UndecodableError(f"{path}: features '{key}' cannot be read ({error})") from None
    return found


@lru_cache(maxsize=256)
def opened(path: str, changed: int) -> Any:  # noqa: ARG001  a part of the cache's key
    """Map a shard as it was at one time, once per process."""
    return safe_open(path, framework="pt")
