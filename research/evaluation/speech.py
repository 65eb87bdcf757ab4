"""Labelled speech for probes."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from research.data import audio, features
from research.data.manifest import Manifest
from research.errors import HarkError
from research.evaluation.splits import Draw


@dataclass
class Speech:
    """Decoded utterances with their phones."""

    audio: list[Tensor]  # per utterance (N,)
    segments: list[
        list[tuple[float, float, str]]
    ]  # per utterance (start s, end s, phone), in the order of time
    stored: list[Tensor] = field(default_factory=list)  # per utterance (L, T, D), of manifests of features

    def pick(self, rows: Sequence[int]) -> "Speech":
        stored = [self.stored[i] for i in rows] if self.stored else []
        return Speech([self.audio[i] for i in rows], [self.segments[i] for i in rows], stored)


@dataclass
class Task:
    """Speech, and the rows of it that serve each end."""

    speech: Speech
    train: list[list[int]]  # per seed
    dev: list[int]
    test: list[int]


def gather(train: Manifest, test: Manifest, drawn: Draw, sample_rate: int) -> Task:
    """Decode every utterance that is used, once."""
    used = sorted({*drawn.dev, *(row for rows in drawn.train for row in rows)})
    place = {row: i for i, row in enumerate(used)}
    one, two = decode(train, used, sample_rate), decode(test, range(len(test)), sample_rate)
    return Task(
        Speech(one.audio + two.audio, one.segments + two.segments, one.stored + two.stored),
        train=[[place[row] for row in rows] for rows in drawn.train],
        dev=[place[row] for row in drawn.dev],
        test=list(range(len(used), len(used) + len(test))),
    )


def decode(manifest: Manifest, rows: Sequence[int], sample_rate: int) -> Speech:
    """Read utterances; HarkError names the line of one that has no phones or whose audio is broken."""
    speech = Speech([], [])
    for i in rows:
        item = manifest.utterance(i)
        try:
            clip = audio.read(item.path, item.offset, item.duration, sample_rate)
            if manifest.stored:
                speech.stored.append(features.read(manifest.extra(i), manifest.folder(i)))  # noqa: S610  not Django's
        except audio.UndecodableError as error:
            raise HarkError(f"{manifest.where(i)}: {error}") from error
        speech.audio.append(torch.from_numpy(clip.samples))
        speech.segments.append(phones(manifest, i))
    return speech


def phones(manifest: Manifest, i: int) -> list[tuple[float, float, str]]:
    """The key `phones` of a line, [[start s, end s, label], ...]."""
    line = manifest.extra(i)  # noqa: S610  not Django's
    try:
        found = [(float(start), float(end), str(label)) for start, end, label in line["phones"]]
    except (KeyError, TypeError, ValueError):
        found = []
    if not found:
        raise HarkError(f"{manifest.where(i)}: has no phones [[start, end, label], ...]; probes need them")
    return sorted(found)
