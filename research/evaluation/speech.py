"""Labelled speech for probes, and splits of it that do not leak."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from research.data import audio
from research.data.manifest import Manifest
from research.errors import HarkError


@dataclass
class Speech:
    """Decoded utterances with their phones."""

    audio: list[Tensor]  # per utterance (N,)
    segments: list[list[tuple[float, float, str]]]  # per utterance (start s, end s, phone)

    def pick(self, rows: Sequence[int]) -> "Speech":
        return Speech([self.audio[i] for i in rows], [self.segments[i] for i in rows])


def decode(manifest: Manifest, rows: Sequence[int], sample_rate: int) -> Speech:
    """Read utterances; HarkError names the line of one that has no phones or whose audio is broken."""
    speech = Speech([], [])
    for i in rows:
        phones = manifest.extra(i).get("phones")
        if not phones:
            raise HarkError(f"{manifest.where(i)}: has no phones, a list of [start, end, label]; probes need them")
        item = manifest.utterance(i)
        try:
            clip = audio.read(item.path, item.offset, item.duration, sample_rate)
        except audio.UndecodableError as error:
            raise HarkError(f"{manifest.where(i)}: {error}") from error
        speech.audio.append(torch.from_numpy(clip.samples))
        speech.segments.append(sorted((float(start), float(end), str(label)) for start, end, label in phones))
    return speech


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


@dataclass(frozen=True)
class Draw:
    """Which rows of the training manifest serve what."""

    dev: list[int]  # choose layers; nothing learns from them
    train: list[list[int]]  # per seed


def draw(size: int, sentences: int, dev: int, seeds: int) -> Draw:
    """Take every so many-th of `size` rows for dev; each seed draws from the others, at most 80% so that seeds differ."""
    step = max(5, size // dev)
    held = list(range(0, size, step))[:dev]
    pool = torch.tensor([i for i in range(size) if i not in set(held)])
    count = min(sentences, int(0.8 * len(pool)))
    orders = [torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)) for seed in range(seeds)]
    return Draw(held, [sorted(pool[order[:count]].tolist()) for order in orders])
