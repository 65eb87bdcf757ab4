"""Bounds of buckets by what they pad, against their definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.data import bins
from research.data.bins import Histogram, Part, equal, histogram, least_padding, padding, written
from research.data.plan import bucket_bounds
from tests.durations import cells_of, speech


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 9)), min_size=1, max_size=9),
    st.integers(1, 10),
)
def test_bounds_of_least_padding_are_the_best_there_are(found, buckets):
    cells = cells_of(np.repeat([d / 10 for d, _ in found], [count for _, count in found]))
    *inner, longest = cells.longest
    fewer = range(min(buckets, len(cells.longest)))
    every = [[*some, longest] for size in fewer for some in itertools.combinations(inner, size)]
    best = min(padding(cells, np.array(bounds)) for bounds in every)
    bounds = least_padding(cells, buckets)
    assert padding(cells, bounds) == pytest.approx(best, abs=1e-12)
    assert len(bounds) <= buckets


def test_more_cells_than_one_stride_are_solved_too():
    rng = np.random.default_rng(0)
    for size in (31, 32, 33, 100):
        longest = np.sort(rng.choice(5000, size, replace=False)) / 100
        counts = rng.integers(1, 50, size).astype(float)
        cells = Histogram(longest, counts, counts * longest)
        # the same recursion, all splits tried
        before, bound = np.append(0, np.cumsum(counts)), np.append(0, longest)
        cost = bound * before
        for _ in range(6):
            cost = np.array(
                [
                    min(cost[i] + bound[j] * (before[j] - before[i]) for i in range(j + 1))
                    for j in range(size + 1)
                ]
            )
        assert padding(cells, least_padding(cells, 7)) == pytest.approx(1 - cells.seconds.sum() / cost[-1])


def test_what_is_written_is_rounded_up_to_milliseconds_and_no_further():
    assert written(np.array([2.16, 14.53, 20.0, 28.31961, 30.0000000001])) == [
        2.16,
        14.53,
        20.0,
        28.32,
        30.0000000001,
    ]


def test_buckets_of_equal_audio():
    durations = speech(20_000)
    cells = cells_of(durations)
    bounds = equal(cells.longest, cells.seconds, 30)
    audio = np.bincount(np.searchsorted(bounds, durations), durations)
    assert len(bounds) == 30
    assert bounds[-1] == durations.max()
    assert audio == pytest.approx(np.full(30, durations.sum() / 30), rel=0.1)
    assert padding(cells, bucket_bounds(durations, 30)) < padding(cells, bounds)


def test_a_histogram_keeps_all_audio_and_the_longest_of_each_cell():
    cells = histogram([Part(np.array([0.101, 0.109, 0.11, 5.0]), 1.0), Part(np.array([0.105, 7.0]), 2.5)])
    assert cells.longest.tolist() == [0.11, 5.0, 7.0]
    assert cells.counts.tolist() == [5.5, 1.0, 2.5]
    assert cells.seconds == pytest.approx([0.101 + 0.109 + 0.11 + 2.5 * 0.105, 5.0, 17.5])
    parts = [Part(speech(seed=seed), 1.0 + seed) for seed in range(3)] + [Part(np.zeros(0), 1.0)]
    cells = histogram(parts)
    assert (np.diff(cells.longest) > 0).all()
    assert cells.counts.sum() == 6000
    assert cells.seconds.sum() == pytest.approx(sum(part.durations.sum() * part.repeats for part in parts))
    assert set(cells.longest) <= set(np.concatenate([part.durations for part in parts]))


def test_padding_is_that_of_the_definition():
    durations, bounds = speech(), np.array([2.0, 5.0, 11.0, 40.0])
    padded = bounds[np.searchsorted(bounds, durations)].sum()
    assert padding(cells_of(durations), bounds) == pytest.approx(1 - durations.sum() / padded)


def test_an_epoch_hears_a_source_as_often_as_its_share_says():
    parts = [
        Part(np.array([3.0, 1.0, 2.0]), 2.0),
        Part(np.arange(1.0, 101.0), 0.1),
        Part(np.array([9.0]), 0.2),
    ]
    heard = bins.epoch(parts)
    assert heard.tolist() == [1, 1, 2, 2, 3, 3, *range(1, 101, 10)]
