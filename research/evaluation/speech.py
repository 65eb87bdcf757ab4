"""Labelled speech for probes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from research.data import audio, features
from research.data.manifest import Manifest
from research.errors import HarkError
from research.evaluation.splits import Draw
from research.evaluation.tasks import Splits

Segments = list[tuple[float, float, str]]  # (start s, end s, label), in the order of time


@dataclass
class Speech:
    """Decoded utterances with what is known of them."""

    audio: list[Tensor] = field(default_factory=list)  # per utterance (N,)
    segments: list[Segments] = field(default_factory=list)  # per utterance, its phones
    speakers: list[str] = field(default_factory=list)  # per utterance; "" is unknown
    labels: dict[str, list[str]] = field(default_factory=dict)  # key of lines -> per utterance
    stored: list[Tensor] = field(default_factory=list)  # per utterance (L, T, D), of manifests of features
    places: list[str] = field(default_factory=list)  # per utterance its manifest's line; [] is unknown

    def pick(self, rows: Sequence[int]) -> "Speech":
        return Speech(
            [self.audio[i] for i in rows],
            [self.segments[i] for i in rows],
            [self.speakers[i] for i in rows],
            {key: [found[i] for i in rows] for key, found in self.labels.items()},
            [self.stored[i] for i in rows] if self.stored else [],
            [self.places[i] for i in rows] if self.places else [],
        )


@dataclass
class Task:
    """Speech, and the rows of it that serve each end."""

    speech: Speech
    train: list[list[int]]  # per seed
    dev: list[int]
    test: list[int]


def gather(splits: Splits, drawn: Draw, sample_rate: int, keys: Collection[str]) -> Task:
    """Decode every utterance that is used, once, with what it says under keys of its line, "" for its phones."""
    speech = Speech(labels={key: [] for key in keys})
    taught = sorted({row for rows in drawn.train for row in rows})
    asked = [
        (splits.train, taught),
        (splits.valid or splits.train, drawn.dev),
        (splits.test, range(len(splits.test))),
    ]
    places = []
    for manifest, rows in asked:
        start = len(speech.audio)
        for i in rows:
            decode(manifest, i, sample_rate, speech)
        places.append(dict(zip(rows, range(start, len(speech.audio)), strict=True)))
    train = [[places[0][row] for row in rows] for rows in drawn.train]
    return Task(speech, train, list(places[1].values()), list(places[2].values()))


def decode(manifest: Manifest, i: int, sample_rate: int, speech: Speech) -> None:
    """Add an utterance; HarkError names the line of one that has not what is asked or whose audio is broken."""
    item, line = manifest.utterance(i), manifest.extra(i)  # noqa: S610  not Django's
    segments = phones(line)
    for key, found in speech.labels.items():
        label = line.get(key)
        if key == "" and not segments:
            raise HarkError(
                f"{manifest.where(i)}: has no phones [[start, end, label], ...]; probes need them"
            )
        if key and label in (None, ""):
            raise HarkError(f"{manifest.where(i)}: has no '{key}', which a probe asks")
        found.append(str(label) if key else "")
    try:
        clip = audio.read(item.path, item.offset, item.duration, sample_rate)
        if manifest.stored:
            speech.stored.append(features.read(line, manifest.folder(i)))
    except audio.UndecodableError as error:
        raise HarkError(f"{manifest.where(i)}: {error}") from error
    speech.audio.append(torch.from_numpy(clip.samples))
    speech.segments.append(segments)
    speech.places.append(manifest.where(i))
    speech.speakers.append(str(line.get("speaker") or ""))


def phones(line: dict[str, object]) -> Segments:
    """The key `phones` of a line, [[start s, end s, label], ...]; [] when it cannot be read."""
    try:
        found = [(float(start), float(end), str(label)) for start, end, label in line["phones"]]  # type: ignore[attr-defined]
    except (KeyError, TypeError, ValueError):
        return []
    return sorted(found)
