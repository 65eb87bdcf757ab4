"""Duration bins: upper bounds of buckets, of which the last covers the longest utterance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CELL = 0.01  # s, of the histogram
STEP = 1000  # bounds are written in steps of 1 / STEP seconds


class Part(NamedTuple):
    """The utterances of one source, and how often an epoch hears each."""

    durations: Floats  # (U,) s
    repeats: float


class Histogram(NamedTuple):
    """How much there is of every duration that occurs, from short to long."""

    longest: Floats  # (M,) s, the longest utterance of each cell
    counts: Floats  # (M,) utterances, each as often as an epoch hears it
    seconds: Floats  # (M,) of audio, likewise


def histogram(parts: Sequence[Part]) -> Histogram:
    """Cells of 10 ms, without empty ones."""
    cells, longest, counts, seconds = (np.concatenate(x) for x in zip(*map(cells_of, parts), strict=True))
    _, place = np.unique(cells, return_inverse=True)  # parts share cells
    merged = np.zeros(place.max() + 1)  # (M,)
    np.maximum.at(merged, place, longest)
    return Histogram(merged, *(np.bincount(place, x).astype(np.float64) for x in (counts, seconds)))


def cells_of(part: Part) -> tuple[Floats, Floats, Floats, Floats]:
    """Numbers of a part's cells, their longest utterances, counts and seconds, all from short to long."""
    ordered: Floats = np.sort(part.durations.astype(np.float64))  # (U,)
    cell: Floats = np.ceil(ordered / CELL)
    starts = np.flatnonzero(np.diff(cell, prepend=-1.0))
    ends = np.append(starts, len(ordered))[1:]
    seconds = np.add.reduceat(ordered, starts) if len(starts) else ordered
    counts = (ends - starts).astype(np.float64)
    return cell[starts], ordered[ends - 1], part.repeats * counts, part.repeats * seconds


def equal(longest: Floats, seconds: Floats, buckets: int) -> Floats:
    """Bounds (s), rising, of at most `buckets` buckets of equal total duration.

    `longest`, (M,), are durations from short to long, `seconds`, (M,), the audio of each.
    """
    total = np.cumsum(seconds)
    ends = np.searchsorted(total, total[-1] * np.arange(1, buckets) / buckets)
    return np.unique(np.append(longest[ends], longest[-1]))


def least_padding(cells: Histogram, buckets: int) -> Floats:
    """Bounds (s), rising, of the `buckets` buckets that pad least when every utterance fills up its bound.

    Dynamic programming over cells: `cost[j]` is the least audio, padding included, of cells 0 to j - 1 in as many
    buckets as rounds were done. A bucket of cells i to j - 1 holds `longest[j - 1] * (counts of i to j - 1)`. As both
    factors rise with j, the best i does too (the cost has Monge's property), so that cells between two that are solved
    look only between the answers of those: O(buckets * M * log M), done for all cells of a level at once.
    """
    before = np.append(0.0, np.cumsum(cells.counts))  # (M + 1,) utterances
    bound = np.append(0.0, cells.longest)  # (M + 1,) s
    cost = bound * before  # one bucket
    splits: list[Ints] = []
    for _ in range(min(buckets, len(cells.longest)) - 1):
        split, cost = best_splits(cost, before, bound)
        splits.append(split)
    ends = [len(cells.longest)]
    for split in reversed(splits):
        ends.append(int(split[ends[-1]]))
    return np.unique(bound[[end for end in ends if end > 0]])


def best_splits(cost: Floats, before: Floats, bound: Floats) -> tuple[Ints, Floats]:
    """For every j the i <= j of least `cost[i] + bound[j] * (before[j] - before[i])`, and that sum; both (M + 1,)."""
    last = len(cost) - 1
    split, best = np.zeros(last + 1, np.int64), np.zeros(last + 1)
    stride = 1 << last.bit_length()
    while stride:
        j = np.arange(stride, last + 1, 2 * stride)  # (J,), between those that are solved
        low = split[j - stride]
        high = np.where(j + stride <= last, split[np.minimum(j + stride, last)], j)
        high = np.minimum(high, j)
        sizes = high - low + 1
        starts = np.cumsum(sizes) - sizes  # (J,) into the candidates of all
        owner = np.repeat(np.arange(len(j)), sizes)
        i = np.arange(len(owner)) + (low - starts)[owner]
        sums = cost[i] + bound[j][owner] * (before[j][owner] - before[i])
        if len(j):
            best[j] = np.minimum.reduceat(sums, starts)
            hits = np.flatnonzero(sums == best[j][owner])
            split[j[owner[hits[::-1]]]] = i[hits[::-1]]  # the first of equals is written last
        stride //= 2
    return split, best


def written(bounds: Floats) -> list[float]:
    """Bounds as a file holds them: rounded up to milliseconds where they are not there already, never down."""
    rounded = np.ceil(bounds * STEP - 1e-3) / STEP
    return [float(bound) for bound in np.unique(np.maximum(rounded, bounds))]


def padding(cells: Histogram, bounds: Floats) -> float:
    """Share of the audio that is padding when every utterance fills up the bound of its bucket."""
    padded = bounds[np.searchsorted(bounds, cells.longest)] @ cells.counts
    return 1 - float(cells.seconds.sum() / padded)


def epoch(parts: Sequence[Part]) -> Floats:
    """Durations that an epoch hears: of a source, evenly spaced ones from short to long where it does not fit."""
    heard = []
    for durations, repeats in parts:
        size = round(len(durations) * repeats)
        heard.append(np.sort(durations)[np.arange(size) * len(durations) // max(size, 1)])
    return np.concatenate(heard).astype(np.float64)
