"""Which utterances teach a probe, which choose the layer, which test: and that no two of these share any."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from research.config import Data
from research.data.manifest import Manifest, load
from research.errors import HarkError


@dataclass(frozen=True)
class Draw:
    """Rows of the training manifest."""

    train: list[list[int]]  # per seed
    dev: list[int]  # nothing learns from them, under any seed


def draw(size: int, sentences: int, dev: int, seeds: int) -> Draw:
    """Take every so many-th of `size` rows, `dev` at most, for dev; each seed draws `sentences` of the others.

    At most a fifth goes to dev, and at most 80% of the others to a seed, so that seeds differ.
    """
    held = list(range(0, size, max(5, size // dev)))[:dev]
    pool = torch.tensor(sorted(set(range(size)) - set(held)))
    count = min(sentences, int(0.8 * len(pool)))
    if count < 1 or len(held) < 2:
        raise HarkError(f"{size} training utterances are too few for a probe: give at least 6")
    orders = [
        torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)
    ]
    return Draw([sorted(pool[order[:count]].tolist()) for order in orders], held)


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


def manifests(train: Path | None, test: Path | None, data: Data) -> tuple[Manifest, Manifest]:
    """Load the labelled manifests; without a path, those that `hark prepare` put beside the training data.

    HarkError: there is none, or an utterance of the test is in the training manifest too.
    """
    beside = Path(data.train[0] if data.train else "unknown").parent
    paths = {"train": train or beside / "phones_train.jsonl", "test": test or beside / "phones_test.jsonl"}
    for split, path in paths.items():
        if not path.exists():
            raise HarkError(f"{path}: no such manifest; name one that has phones with --{split}")
    learn, ask = load([paths["train"]], data), load([paths["test"]], data)
    if leaked := shared(ask, learn):
        first = f"the first is '{leaked[0]}'"
        raise HarkError(
            f"{paths['test']}: {len(leaked)} utterances are in {paths['train']} too, {first}; leave them out"
        )
    return learn, ask


def seen(test: Manifest, data: Data) -> int | None:
    """How many of the test utterances pretraining heard, without labels; None when its manifests are not here."""
    if not data.train or not all(Path(path).exists() for path in data.train):
        return None
    return len(shared(test, load(data.train, data, headers=False)))


def digests(*found: Manifest) -> dict[str, str]:
    """Path -> SHA-256 of manifest files."""
    paths = [source.path for manifest in found for source in manifest.sources]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
