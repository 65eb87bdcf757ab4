"""Which utterances teach a probe, which choose, which test: and that no two of these share any."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from research.config import Data
from research.data.manifest import Manifest, load
from research.errors import HarkError


@dataclass(frozen=True)
class Draw:
    """Rows of manifests. No seed learns from what is in `dev`."""

    train: list[list[int]]  # per seed
    dev: list[int]  # of the training manifest, unless dev has one of its own


def draw(size: int, sentences: int, dev: int, seeds: int) -> Draw:
    """Take every so many-th of `size` rows, `dev` at most, for dev; each seed draws `sentences` of the others.

    At most a fifth goes to dev, and at most 80% of the others to a seed, so that seeds differ.
    """
    held = list(range(0, size, max(5, size // dev)))[:dev]
    return Draw(samples(sorted(set(range(size)) - set(held)), sentences, seeds), several(held, size))


def draw_beside(size: int, others: int, sentences: int, dev: int, seeds: int) -> Draw:
    """As `draw`, where dev has a manifest of its own, of `others` rows."""
    held = list(range(0, others, -(-others // dev)))
    return Draw(samples(range(size), sentences, seeds), several(held, others))


def samples(rows: Sequence[int], count: int, seeds: int) -> list[list[int]]:
    """Draw `count` rows for every seed; more seeds change no earlier one."""
    pool, count = torch.tensor(rows), min(count, int(0.8 * len(rows)))
    if count < 1:
        raise HarkError(f"{len(rows)} training utterances are too few for a probe: give at least 6")
    orders = [
        torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)
    ]
    return [sorted(pool[order[:count]].tolist()) for order in orders]


def several(held: list[int], size: int) -> list[int]:
    if len(held) < 2:
        raise HarkError(f"{size} utterances are too few for a probe to choose from: give at least 6")
    return held


def shared(some: Manifest, others: Manifest) -> list[str]:
    """Name the utterances of `some` that `others` holds too: by id, or as an overlapping stretch of one file."""
    ids, stretches = set(), dict[str, list[tuple[float, float]]]()
    for i in range(len(others)):
        other = others.utterance(i)
        ids.add(other.id)
        stretches.setdefault(other.path, []).append((other.offset, other.offset + other.duration))
    found = []
    for i in range(len(some)):
        item = some.utterance(i)
        end = item.offset + item.duration
        overlap = any(start < end and item.offset < stop for start, stop in stretches.get(item.path, ()))
        if overlap or item.id in ids:
            found.append(item.id)
    return found


def values(manifest: Manifest, key: str) -> list[str]:
    """What lines say under a key, "" where nothing: (U,)."""
    found = (manifest.extra(i).get(key) for i in range(len(manifest)))  # noqa: S610  not Django's
    return ["" if value is None else str(value) for value in found]


def seen(test: Manifest, data: Data) -> int | None:
    """How many of the test utterances pretraining heard, without labels; None when its manifests are not here."""
    if not data.train or not all(Path(path).exists() for path in data.train):
        return None
    return len(shared(test, load(data.train, data, headers=False)))


def digests(*found: Manifest) -> dict[str, str]:
    """Path -> SHA-256 of manifest files."""
    paths = [source.path for manifest in found for source in manifest.sources]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
