"""Streams as a source of the training loop."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from rich.table import Table

from research.config import Mix, Reverb, Speed, Streams, Training
from research.contracts import Batch
from research.data.ahead import ahead
from research.data.plan import held_out, in_order
from research.data.stream import Tally, once
from research.data.streams.batches import Batches, limits
from research.data.streams.clip import Portion
from research.data.streams.lanes import Lanes, in_sequence
from research.data.streams.loader import StreamLoader
from research.data.streams.slices import DRAWS, Slices
from research.data.streams.sources import Stream, open_streams
from research.data.streams.summary import StreamSummary, describe
from research.engine.gangs import Ranks
from research.errors import HarkError
from research.training.data import Fed, Source, State, one_by_one
from research.training.given import NOTHING, Given


class Streamed(Source):
    """`data=lhotse`: batches come out of lanes, in an order that depends on the seed alone.

    What a checkpoint keeps is how many batches all ranks have consumed, and for every lane the epoch of its last
    consumed batch and the number of the lane's batch which that epoch began with.
    """

    def __init__(self, cfg: Training, ranks: Ranks, given: Given = NOTHING) -> None:
        super().__init__(cfg, ranks)
        assert isinstance(cfg.data, Streams)
        self.data, self.seed, self.given = cfg.data, cfg.run.seed, given
        refuse(cfg.data, given)
        self.streams = self.open(self.data.train)
        self.held_out = self.open(self.data.valid) if self.data.valid else []
        self.batches = Batches(Lanes(self.streams, self.data, self.seed), self.data, self.seed)
        self.restore([])

    def open(self, entries: list[Any]) -> list[Stream]:
        return one_by_one(self.ranks, lambda: open_streams(entries, self.data))

    def restore(self, state: State) -> None:
        """Go on where `state` says: HarkError when it was not left by this data."""
        lanes = self.batches.lanes.count
        [self.done], *self.begun = state or [[0], *([0, 0] for _ in range(lanes))]
        self.start = self.done  # batches that other processes consumed
        if len(self.begun) != lanes:
            raise HarkError(
                f"data.train: has {lanes} lanes, but the run began with {len(self.begun)}; "
                "the data have changed, start another run (run.name=...)"
            )

    def train(self, step: int, state: State) -> Iterator[Fed]:
        self.restore(state)
        ranks = self.ranks
        loader = StreamLoader(self.data, self.streams, self.noise, self.seed, self.given.wants)
        portions = self.batches.read(self.done, ranks.rank, ranks.size, self.begun)
        tally = Tally(self.data.max_bad)
        for heard in ahead(self.read(portions, loader.load, self.data.workers), ranks.device):
            tally.add(heard)
            self.begun[heard.lane] = [heard.epoch, heard.first]
            self.done += ranks.size
            yield self.book(heard)

    def state(self) -> State:
        """What a checkpoint keeps: each lane's place comes from the rank that consumed its last batch."""
        ranks, lanes = self.ranks, len(self.begun)
        mine = torch.zeros(lanes, 2, dtype=torch.int64)
        for lane, place in enumerate(self.begun):
            last = self.done - 1 - (self.done - 1 - lane) % lanes  # of the lane's batches that were consumed
            if (last - self.start) % ranks.size == ranks.rank:
                mine[lane] = torch.tensor(place)
        mine = mine.to(ranks.device)
        ranks.all_sum(mine)
        return [[self.done], *mine.tolist()]

    def valid(self) -> Iterator[tuple[int, Batch]]:
        ranks, portions = self.ranks, self.portions
        loader = StreamLoader(still(self.data), self.held_out, self.noise, 0, self.given.wants)
        if ranks.rank >= len(portions):
            yield ranks.rank, self.nothing
        read = once(loader, portions, self.read, rank=ranks.rank, world=ranks.size)
        for k, heard in enumerate(ahead(read, ranks.device)):
            yield k * ranks.size + ranks.rank, self.feed(heard).batch

    @cached_property
    def portions(self) -> list[Portion]:
        """All held-out clips once, from short to long."""
        slices = Slices(still(self.data))
        clips = [
            piece
            for number, stream in enumerate(self.held_out)
            for clip in in_sequence(number, stream)
            for piece in slices.of(clip, stream.tags, [0.0] * DRAWS)
        ]
        if not clips:
            raise HarkError(f"data.valid: every utterance is left out ({dict(slices.left_out)})")
        durations = np.array([clip.duration for clip in clips])
        items = in_order(durations, *limits(durations, self.data, held_out))
        return [Portion(0, 0, 0, [clips[row] for row in item.rows]) for item in items]

    def summary(self) -> str | Table:
        return self.described.table()

    def facts(self) -> dict[str, Any]:
        return asdict(self.described)

    @cached_property
    def described(self) -> StreamSummary:
        return describe(self.batches)


def refuse(data: Streams, given: Given) -> None:
    """HarkError for what streams cannot give."""
    if "labels" in given.wants:
        raise HarkError("data=lhotse: gives no labels of frames; type data=manifest")
    for key in ("window_seconds", "truncate_seconds"):
        if "text" in given.wants and getattr(data, key) > 0:
            raise HarkError(
                f"data.{key}={getattr(data, key):g}: a text is of a whole utterance; type data.{key}=0, and data.max_seconds "
                "to leave out long ones"
            )


def still(data: Streams) -> Streams:
    """The same without what is drawn at random, but for where a part lies: zeros draw the first."""
    return replace(data, speed=Speed(), mix=Mix(), reverb=Reverb())
