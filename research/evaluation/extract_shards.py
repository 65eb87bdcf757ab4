"""Shards: which utterances are in which, writing them whole, and the manifest of what is in them."""

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from research.data.entry import path_of
from research.data.features import FACTS
from research.data.manifest import Manifest
from research.data.plan import Item

log = logging.getLogger(__name__)

AT_LEAST = (
    16  # shards, when there are so many batches: ranks share them, and a resumed command repeats little
)
IDS = ".ids"  # behind the key of an utterance's features: that of its k-means ids


@dataclass
class Shard:
    """Utterances of one file, and those that should be in it but could not be read."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[int, Tensor] = field(default_factory=dict)  # row -> of its features: not finite if any is not
    bad: dict[int, str] = field(default_factory=dict)  # row -> reason


def plan(items: Sequence[Item], sizes: NDArray[np.float64], limit: float) -> list[list[Item]]:
    """Put batches into shards of about `limit` bytes, where utterance `i` takes `sizes[i]`; rank and time play no part."""
    weights = [float(sizes[item.rows].sum()) for item in items]
    limit = min(limit, sum(weights) / AT_LEAST)
    shards: list[list[Item]] = []
    room = 0.0
    for item, weight in zip(items, weights, strict=True):
        if weight > room:
            shards.append([])
            room = limit
        shards[-1].append(item)
        room -= weight
    return shards


def path_of_shard(out: Path, number: int) -> Path:
    return out / "shards" / f"{number:05}.safetensors"


def save(path: Path, shard: Shard) -> None:
    """Write a shard whole or not at all."""
    part = path.with_name(path.name + ".part")
    save_file(shard.tensors, part, {"bad": json.dumps(shard.bad)})
    shutil.copymode(path.parents[1] / FACTS, part)  # safetensors lets only its owner read a file
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


def contents(path: Path) -> tuple[list[str], dict[int, str]] | None:
    """Keys and bad rows of a shard; None while it is not written. One that is damaged is written anew."""
    try:
        with safe_open(path, framework="pt") as file:
            bad = json.loads(file.metadata()["bad"])
            return list(file.keys()), {int(row): reason for row, reason in bad.items()}
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        log.warning("%s: damaged, is written anew (%s)", path, error)
        return None


@dataclass
class Written:
    """Where every utterance of a manifest went."""

    shard: NDArray[np.int64]  # (U,) -1: it is in none
    bad: dict[int, str]


def gather(out: Path, shards: int, utterances: int) -> Written:
    """Look into all shards, which must be there."""
    found = Written(np.full(utterances, -1), {})
    for number in range(shards):
        inside = contents(path_of_shard(out, number))
        assert inside is not None
        keys, bad = inside
        found.shard[[int(key.removesuffix(IDS)) for key in keys]] = number
        found.bad |= bad
    return found


def write_manifest(path: Path, manifest: Manifest, found: Written, names: Mapping[str, str]) -> None:
    """Write the lines of what was read, in the order of the input, each saying where its tensors are.

    `names` are the kinds of tensors: "feature" or "label" -> what stands behind the key.
    """
    part = path.with_name(path.name + ".part")
    with part.open("w") as file:
        for i in np.flatnonzero(found.shard >= 0).tolist():
            line = with_paths(manifest, i)
            shard = path_of_shard(path.parent, found.shard[i]).relative_to(path.parent).as_posix()
            for name, suffix in names.items():
                line |= {f"{name}_path": shard, f"{name}_key": f"{i}{suffix}"}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    part.replace(path)


def with_paths(manifest: Manifest, i: int) -> dict[str, Any]:
    """Give a line whose paths hold in any folder."""
    line, folder = manifest.extra(i), manifest.folder(i)  # noqa: S610  not Django's
    name = "audio_filepath" if line.get("audio_filepath") else "audio_filename"
    line[name] = path_of(line, folder)
    if isinstance(line.get("label_path"), str):
        line["label_path"] = os.path.join(folder, line["label_path"])  # noqa: PTH118  as the data layer does
    return line
