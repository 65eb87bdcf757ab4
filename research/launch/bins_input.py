"""What `hark bins` is given -> durations."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from research import registry, runs
from research.compose import compose_config
from research.config import Data, Speed, Streams
from research.data.bins import Part
from research.data.manifest import source_of
from research.data.scan import durations_of
from research.data.streams.layouts import kind_of
from research.data.streams.nemo import NEMO
from research.data.streams.slices import Slices
from research.data.streams.sources import Stream, open_streams
from research.errors import HarkError


@dataclass
class Heard:
    """All that is heard in an epoch."""

    parts: list[Part]
    left_out: dict[str, int]  # reason -> utterances


def data_of(inputs: Sequence[str]) -> Data:
    """The data section that inputs stand for: that of a run, or one that lists them. HarkError: a mix of both."""
    typed = ["=" in text and not Path(text).exists() for text in inputs]
    if all(typed):
        return compose_config(inputs).config.data
    if any(typed):
        raise HarkError(
            f"{inputs[typed.index(True)]}: type paths alone, or overrides alone (data.train=[...])"
        )
    if len(inputs) == 1 and (Path(inputs[0]) / "config.yaml").exists():
        registry.load_plugins()
        return runs.load_config(Path(inputs[0])).data
    if all(is_manifest(Path(text)) for text in inputs):
        return Data(train=list(inputs))
    return Streams(train=list(inputs))


def is_manifest(path: Path) -> bool:
    return path.suffix in {".json", ".jsonl"} and path.is_file() and kind_of(path) is NEMO


def hear(data: Data) -> Heard:
    """HarkError: no data is named, a line is wrong, or every utterance is left out."""
    if not data.train:
        raise HarkError("data.train names nothing: type data.train=[path/to/train.jsonl]")
    heard = of_streams(data.train, data) if isinstance(data, Streams) else of_manifests(data.train, data)
    if not any(len(part.durations) for part in heard.parts):
        told = ", ".join(f"{count} {reason}" for reason, count in heard.left_out.items()) or "there is none"
        raise HarkError(
            f"{data.train[0]}: no utterance is left ({told}); see --min-seconds and --max-seconds"
        )
    return heard


def of_manifests(paths: Sequence[str], data: Data) -> Heard:
    durations = np.concatenate([durations_of(source_of(path).path) for path in paths])
    short, long = durations < data.min_seconds, durations > data.max_seconds
    reasons = {
        f"under {data.min_seconds:g} s": int(short.sum()),
        f"over {data.max_seconds:g} s": int(long.sum()),
    }
    parts = [Part(durations[~(short | long)], 1.0)]
    return Heard(parts, {reason: count for reason, count in reasons.items() if count})


def of_streams(entries: Sequence[Any], data: Streams) -> Heard:
    """Of N utterances in all, an epoch hears N times a stream's share of that stream."""
    streams = open_streams(entries, data)
    total = sum(len(stream) for stream in streams)
    left_out = Counter[str]()
    for stream in streams:
        left_out.update(stream.left_out)
        left_out.update(Slices(data).beyond(stream.durations.astype(np.float64)))
    parts = [
        part for stream in streams for part in at_speeds(stream, data, total * stream.share / len(stream))
    ]
    return Heard(parts, dict(left_out))


def at_speeds(stream: Stream, data: Streams, repeats: float) -> Iterator[Part]:
    """Clips of a stream, at every speed as often as it is drawn."""
    speed = data.speed
    shares = [(1.0, 1 - speed.prob), *((factor, speed.prob / len(speed.factors)) for factor in speed.factors)]
    for factor, share in shares:
        if share > 0:
            alone = replace(data, speed=Speed(prob=1.0, factors=[factor]))
            yield Part(Slices(alone).durations(stream.durations.astype(np.float64)), repeats * share)
