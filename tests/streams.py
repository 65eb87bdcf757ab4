"""Streams without files, and what comes out of their lanes."""

import json
from dataclasses import dataclass, field
from itertools import chain, islice

import numpy as np

from research.config import Streams
from research.data.streams.batches import Batches
from research.data.streams.clip import Clip, Format
from research.data.streams.lanes import Lanes
from research.data.streams.sources import Stream


@dataclass
class Durations:
    """A shard of lines that say where they come from."""

    name: str
    durations: np.ndarray
    facts: dict = field(default_factory=dict)

    def clips(self, start, stop):
        for row in range(start, stop):
            line = json.dumps({"id": f"{self.name}-{row}", "parity": row % 2, **self.facts}).encode()
            yield Clip(float(self.durations[row]), 0.0, 1.0, 0, row, Format.nemo, line, "", None)


def seconds(count, seed=0):
    return np.random.default_rng(seed).lognormal(1.0, 0.6, count).clip(0.3, 20.0).astype(np.float32)


def stream(name, *sizes, share=1.0, tags=None, **facts):
    """A stream of shards of some sizes."""
    shards = [Durations(f"{name}{k}", seconds(size, seed=k), facts) for k, size in enumerate(sizes)]
    return Stream(name, shards, share, tags or {})


def lanes_of(*streams, seed=0, buffer=1, **settings):
    return Lanes(streams, Streams(buffer=buffer, **settings), seed)


def batches_of(*streams, seed=0, **settings):
    cfg = Streams(**{"batch_seconds": 30.0, "buckets": 6, "buffer": 10, **settings})
    return Batches(Lanes(streams, cfg, seed), cfg, seed)


def flat(lists):
    return list(chain.from_iterable(lists))


def name_of(clip):
    return json.loads(clip.line)["id"]


def names(clips):
    return [name_of(clip) for clip in clips]


def everyone(*streams):
    return sorted(
        f"{shard.name}-{i}" for one in streams for shard in one.shards for i in range(len(shard.durations))
    )


def epoch_of(batches, number):
    """Portions of an epoch, of all lanes."""
    found = []
    for lane in range(batches.lanes.count):
        for portion in batches.lane(lane):
            if portion.epoch > number:
                break
            found += [portion] if portion.epoch == number else []
    return found


def take(portions, number):
    return [(portion.epoch, portion.lane, names(portion.clips)) for portion in islice(portions, number)]
