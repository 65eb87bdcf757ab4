"""A lane's clips -> batches, through lhotse's buckets, epoch after epoch.

Batch b of a run belongs to lane b % lanes and is that lane's batch b // lanes, whoever reads it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from random import Random

import numpy as np

from research.config import Data, Streams
from research.data.plan import Floats, Ints, batch_sizes, by_budget
from research.data.streams.clip import Clip, Portion
from research.data.streams.lanes import Lanes
from research.errors import HarkError

Budget = Callable[[Floats, Data], tuple[Floats, Ints]]
EMPTY = 100  # epochs of a lane without a clip, before it is sure that none will come


class Batches:
    """Batches of all lanes, without end. HarkError: bounds or sizes do not fit the data; nothing is left of it."""

    def __init__(self, lanes: Lanes, cfg: Streams, seed: int) -> None:
        self.lanes, self.cfg, self.seed = lanes, cfg, seed
        self.bounds, self.sizes = limits(lanes.durations(), cfg)
        self.buffer = max(cfg.buffer, int(self.sizes.sum()))  # so that some bucket always fills a batch

    def read(
        self, start: int = 0, rank: int = 0, world: int = 1, begun: Sequence[Sequence[int]] = ()
    ) -> Iterator[Portion]:
        """Batches `start + rank`, `start + rank + world`, ...

        `begun` has, for every lane, the epoch of its last batch before `start` and `Portion.first` of that batch.
        """
        lanes = [self.lane(lane, *place) for lane, place in enumerate(begun or [(0, 0)] * self.lanes.count)]
        ready = [first for _, first in begun] or [0] * self.lanes.count  # the batch that comes next in each
        for number in count(start + rank, world):
            wanted, lane = divmod(number, self.lanes.count)
            yield next(islice(lanes[lane], wanted - ready[lane], None))
            ready[lane] = wanted + 1

    def lane(self, lane: int, epoch: int = 0, first: int = 0) -> Iterator[Portion]:
        """Batches of a lane from the start of an epoch on, which begins with the lane's batch number `first`."""
        empty = 0
        for number in count(epoch):
            made = 0
            for clips in self.epoch(lane, number, first):
                yield Portion(number, lane, first, clips)
                made += 1
            first += made
            empty = 0 if made else empty + 1
            if empty == EMPTY:
                raise HarkError(
                    f"data.keep={self.cfg.keep}: leaves no utterance (left out: {dict(self.lanes.slices.left_out)})"
                )

    def epoch(self, lane: int, epoch: int, first: int) -> Iterator[list[Clip]]:
        """Batches of one epoch of a lane; the last ones of each bucket may be smaller.

        Rows are counted, as in a plan: lhotse's own constraint on seconds lets a long utterance that comes last make
        a batch of twice as many. Durations are rounded, so the last bucket takes all that the others do not.
        """
        from lhotse.dataset.sampling import dynamic_bucketing as lhotse  # noqa: PLC0415  slow to import

        bounds = self.bounds[:-1].tolist()
        bucketer = lhotse.DynamicBucketer(
            ((clip,) for clip in self.lanes.clips(epoch, lane)),  # it takes tuples of cuts that go together
            duration_bins=bounds,
            world_size=1,
            constraint=lhotse.FixedBucketBatchSizeConstraint([*bounds, math.inf], self.sizes.tolist()),
            buffer_size=self.buffer,
            shuffle=True,
            rng=Shuffle((self.seed, epoch, lane)),
            bucket_rng=Turns(self.seed, first),
        )
        for cuts in bucketer:
            yield list(cuts)


class Shuffle:
    """Stands for the generator that lhotse shuffles a bucket with for every batch, and is many times as fast."""

    def __init__(self, seed: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(seed)

    def shuffle(self, places: list[int]) -> None:
        """Shuffle 0, 1, 2, ..."""
        places[:] = self.rng.permutation(len(places)).tolist()


class Turns:
    """Which bucket a batch comes from, where it can: the same for batch k of every lane.

    Lanes are shared among ranks, so that these get audio of like length in a step and none waits for another. It
    stands for the generator that lhotse draws buckets with.
    """

    def __init__(self, seed: int, number: int) -> None:
        self.seed, self.number = seed, number

    def randrange(self, buckets: int) -> int:
        drawn = Random(repr((self.seed, self.number))).randrange(buckets)
        self.number += 1
        return drawn

    def getstate(self) -> int:
        return self.number

    def setstate(self, number: int) -> None:
        self.number = number


def limits(durations: Floats, cfg: Streams, choose: Budget = by_budget) -> tuple[Floats, Ints]:
    """Bounds (s) of buckets and rows per batch in each, as `choose`, with what streams add to it; HarkError too."""
    if cfg.bounds:  # durations of shards are rounded: one that lies at the last bound is not above it
        last = cfg.bounds[-1]
        durations = np.where(durations <= last * (1 + 1e-6), durations.clip(max=last), durations)
    bounds, sizes = choose(durations, cfg)
    if cfg.quadratic_seconds and not cfg.sizes:
        sizes = batch_sizes(bounds + bounds**2 / cfg.quadratic_seconds, cfg.batch_seconds)
    return bounds, np.minimum(sizes, cfg.max_rows) if cfg.max_rows else sizes


def padding(portions: Sequence[Portion]) -> float:
    """Share of the batched audio that is padding."""
    durations = [[clip.duration for clip in portion.clips] for portion in portions]
    padded = sum(len(batch) * max(batch) for batch in durations)
    return 1 - sum(map(sum, durations)) / padded
