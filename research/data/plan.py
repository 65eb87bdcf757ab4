"""Which utterances make which batch, computed from durations alone and therefore the same on every rank."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.config import Data
from research.data.bins import Part, histogram, least_padding
from research.errors import HarkError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

POOL = 4  # groups of batches that are drawn together
POOLS = 4  # draws that a bucket has at least: with fewer its batches would be much the same in every epoch


class Item(NamedTuple):
    """What a reader is asked to load."""

    epoch: int
    rows: Ints  # (B,) utterances


def bucket_bounds(durations: Floats, buckets: int) -> Floats:
    """Upper bounds (s), rising, of at most `buckets` buckets that pad least; the last one covers all."""
    if buckets < 1:
        raise HarkError(f"data.buckets={buckets}: must be at least 1")
    return least_padding(histogram([Part(durations, 1.0)]), buckets)


def batch_sizes(bounds: Floats, batch_seconds: float) -> Ints:
    """Rows per batch in each bucket: what fits into `batch_seconds` when every row is as long as the bound."""
    if batch_seconds <= 0:
        raise HarkError(f"data.batch_seconds={batch_seconds:g}: must be above 0")
    return np.maximum(1, batch_seconds // bounds).astype(np.int64)


def by_budget(durations: Floats, cfg: Data) -> tuple[Floats, Ints]:
    """Bounds and batch sizes: those of the config, or as its `buckets` and `batch_seconds` want them.

    HarkError: bounds are not rising or leave the longest utterance out, sizes are not one for each bound.
    """
    bounds, sizes = chosen(durations, cfg)
    if durations.max() > bounds[-1]:
        raise HarkError(
            f"data.bounds: the last is {bounds[-1]:.2f} s, but an utterance lasts {durations.max():.2f} s; "
            f"make the bins anew with `hark bins`, or set data.max_seconds={bounds[-1]:g}"
        )
    return bounds, sizes


def held_out(durations: Floats, cfg: Data) -> tuple[Floats, Ints]:
    """As `by_budget`, for what is only evaluated: what is longer than all bounds gets a bucket of its own.

    Its batches hold no more audio than those of the last bucket, or one utterance.
    """
    bounds, sizes = chosen(durations, cfg)
    longest = durations.max()
    if longest > bounds[-1]:
        rows = max(1, int(sizes[-1] * bounds[-1] // longest))
        return np.append(bounds, longest), np.append(sizes, rows)
    return bounds, sizes


def chosen(durations: Floats, cfg: Data) -> tuple[Floats, Ints]:
    bounds = np.array(cfg.bounds) if cfg.bounds else bucket_bounds(durations, cfg.buckets)
    if (np.diff(bounds) <= 0).any() or bounds[0] <= 0:
        raise HarkError(f"data.bounds={cfg.bounds}: must rise, from above 0 s; `hark bins` writes such")
    sizes = np.array(cfg.sizes) if cfg.sizes else batch_sizes(bounds, cfg.batch_seconds)
    if len(sizes) != len(bounds) or sizes.min() < 1:
        raise HarkError(
            f"data.sizes={cfg.sizes}: must be one number of rows, 1 or more, for each of {len(bounds)} bounds"
        )
    return bounds, sizes


class Plan:
    """An endless list of batches: `plan[b]` is batch `b` of the run, asked for at any time and in any order.

    Every utterance comes once in each epoch of `per_epoch` batches. A batch comes from one bucket; `group` consecutive
    ones (those of an optimizer step, over ranks and accumulation) come from the same bucket, so that no rank waits
    for another's longer audio. Only what fills no group is mixed. A bucket's utterances are spread evenly over its
    batches rather than leaving a short last one. Where it has many, those of a few groups of batches are drawn together
    and dealt out from short to long, which pads less than drawing batch by batch.
    """

    def __init__(
        self, durations: Floats, bounds: Floats, sizes: Ints, *, group: int = 1, seed: int = 0
    ) -> None:
        if durations.max() > bounds[-1]:
            raise HarkError(
                f"an utterance lasts {durations.max():.2f} s, the longest bucket {bounds[-1]:.2f} s"
            )
        bucket = np.searchsorted(bounds, durations).astype(np.uint16)  # (U,)
        counts = np.bincount(bucket, minlength=len(bounds))
        batches = -(-counts // sizes)
        self.durations, self.bounds, self.group, self.seed = durations, bounds, group, seed
        self.members = np.argsort(bucket, kind="stable")  # (U,) utterances, bucket after bucket
        self.edges = np.append(0, np.cumsum(counts))  # of buckets, into `members`
        self.bucket = np.repeat(np.arange(len(bounds)), batches)  # (K,) of each batch
        self.place = (
            np.arange(len(self.bucket)) - (np.cumsum(batches) - batches)[self.bucket]
        )  # (K,) in its bucket
        pool = np.clip(batches // POOLS, 1, POOL * group)[self.bucket]  # (K,) batches that are drawn together
        self.pool = np.cumsum(self.place % pool == 0)  # (K,) which of these draws it belongs to
        spread = self.place * counts[self.bucket] // batches[self.bucket]
        self.starts = np.append(self.edges[self.bucket] + spread, len(durations))  # (K + 1,) into `members`
        self.made: tuple[int, Ints, Ints] = (
            -1,
            self.members,
            self.place,
        )  # the epoch that was asked for last

    @property
    def per_epoch(self) -> int:
        return len(self.bucket)

    def __getitem__(self, number: int) -> Item:
        epoch, place = divmod(number, self.per_epoch)
        members, order = self.epoch(epoch)
        return Item(epoch, self.batch(members, order[place]))

    def epoch(self, number: int) -> tuple[Ints, Ints]:
        """`shuffled`, which takes seconds where utterances are millions, once for all batches of an epoch."""
        made = self.made
        if made[0] != number:
            made = self.made = (number, *self.shuffled(number))
        return made[1:]

    def batch(self, members: Ints, number: int) -> Ints:
        return members[self.starts[number] : self.starts[number + 1]]

    def shuffled(self, epoch: int) -> tuple[Ints, Ints]:
        """Utterances shuffled inside their buckets, (U,), and the order of the batches, (K,), of an epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        members = self.members.copy()
        for start, end in zip(self.edges, self.edges[1:], strict=False):
            rng.shuffle(members[start:end])
        pool = np.repeat(self.pool, np.diff(self.starts))  # (U,)
        # one key sorts 15 times as fast as two
        keys = pool * (self.bounds[-1] + 1.0) + self.durations[members]
        members = members[np.argsort(keys, kind="stable")]
        return members, self.order(rng, lead=-epoch * self.per_epoch % self.group)

    def order(self, rng: np.random.Generator, lead: int) -> Ints:
        """Groups in random order, after `lead` batches that end the step which the last epoch began."""
        batches = np.bincount(self.bucket)
        whole = self.place < (batches // self.group * self.group)[self.bucket]  # (K,)
        groups = np.flatnonzero(whole).reshape(-1, self.group)
        loose = np.flatnonzero(~whole)  # still bucket after bucket, so that neighbours are of like length
        if len(loose) < lead and len(groups):
            loose, groups = np.append(loose, groups[-1]), groups[:-1]
        loose = np.roll(loose, rng.integers(len(loose) + 1))
        first, loose = loose[:lead], loose[lead:]
        end = len(loose) // self.group * self.group
        groups = np.concatenate([groups, loose[:end].reshape(-1, self.group)])
        return np.concatenate([first, rng.permutation(groups).ravel(), loose[end:]])

    def longest(self, members: Ints) -> Floats:
        """Seconds of the longest utterance of every batch of an order of all, (U,) -> (K,)."""
        return np.maximum.reduceat(self.durations[members], self.starts[:-1])

    def padding(self) -> float:
        """Share of the first epoch's audio, as batched, that is padding."""
        members, _ = self.epoch(0)
        padded = self.longest(members) * np.diff(self.starts)  # (K,) s
        return 1 - float(self.durations.sum() / padded.sum())


def in_order(durations: Floats, bounds: Floats, sizes: Ints) -> list[Item]:
    """All utterances once, from short to long, in batches of the buckets' sizes: what validation reads."""
    members = np.argsort(durations, kind="stable")  # (U,)
    plan = Plan(durations[members], bounds, sizes)
    return [Item(0, plan.batch(members, number)) for number in range(plan.per_epoch)]
