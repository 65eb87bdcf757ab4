"""Batch sizes from made-up measures."""

import itertools
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from research.errors import HarkError
from research.launch.memory import read_bytes
from research.launch.search import Found, candidates, choose, largest, merge, search, take_turns
from research.launch.trial import Trial

rows = st.integers(1, 5000)


class Measured:
    """A device that `room` seconds of audio fit into; `noise` makes it waver. Remembers what was tried."""

    def __init__(self, room, noise=0.0, seed=0, busy=100.0):
        self.room, self.noise, self.busy, self.rng = room, noise, busy, random.Random(seed)
        self.tried = []

    def __call__(self, rows, seconds, steps):
        room = self.room * (1 + self.noise * self.rng.uniform(-1, 1))
        audio = rows * seconds
        trial = Trial(
            rows, seconds, int(audio), audio <= room, max(audio, self.busy) if audio <= room else None
        )
        self.tried.append((trial, steps))
        return trial


@settings(max_examples=300, deadline=None)
@given(rows, rows, rows)
def test_the_largest_that_fits_is_found_to_the_tolerance(true, start, most):
    tried = []

    def fits(n):
        tried.append(n)
        return n <= true

    found = largest(fits, start, most)
    best = min(true, most)
    assert found <= best
    assert best - found <= max(1, 0.05 * (best + 1)) - (best == most)
    assert found in tried
    assert min(tried) >= 1
    assert max(tried) <= most
    assert len(tried) == len(set(tried)) <= 32


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3000), rows, rows, st.integers(0, 1000))
def test_however_the_measure_wavers_what_is_given_did_fit(true, start, most, seed):
    rng, tried = random.Random(seed), {}

    def fits(n):
        tried[n] = n <= true * rng.uniform(0.7, 1.3)
        return tried[n]

    found = largest(fits, start, most)
    assert (found == 0 and not tried[1]) or tried[found]
    assert len(tried) <= 32


def test_nothing_fits_is_zero_after_one_row_was_tried():
    tried = []
    assert largest(lambda n: bool(tried.append(n)), 700, 4096) == 0
    assert tried[-1] == 1


def test_a_good_start_costs_two_trials():
    tried = []
    assert largest(lambda n: tried.append(n) or n <= 102, 100, 4096) == 100
    assert tried == [100, 105]


@example(bounds=[3.0, 8.0, 24.0, 25.0, 3.25], room=61.0, noise=0.1875, seed=1)  # fits once, and then no more
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.2, 60.0), min_size=1, max_size=20, unique=True),
    st.floats(60.0, 5000.0),
    st.floats(0.0, 0.2),
    st.integers(0, 99),
)
def test_every_bucket_gets_a_batch_that_did_fit(bounds, room, noise, seed):
    measure = Measured(room / (1 - noise), noise, seed)
    found = list(search(bounds, measure, most=4096, repeats=3))
    assert [one.bound for one in found] == sorted(bounds, reverse=True)
    timed = [trial for trial, steps in measure.tried if steps == 3]
    for one in found:
        assert 1 <= one.chosen.rows <= one.largest
        assert one.chosen.fits
        assert one.chosen in timed
    assert min(trial.rows for trial, _ in measure.tried) >= 1


def test_a_shorter_bucket_never_gets_fewer_rows():
    measure = Measured(400.0, busy=10.0)  # busy at once: any batch is as fast
    found = list(search([1.0, 2.0, 4.0, 39.0, 40.0], measure, most=4096, repeats=1))
    sizes = [one.chosen.rows for one in found]
    assert sizes == sorted(sizes)
    assert [one.largest for one in found][:2] == [10, 10]


def test_what_is_chosen_is_the_smallest_batch_near_the_best_throughput():
    curve = [Trial(n, 2.0, n, fits=True, time=max(n, 30) / 100) for n in (10, 29, 30, 60, 120)]
    assert choose(curve).rows == 30
    assert choose([trial._replace(time=None) for trial in curve]).rows == 120
    assert choose([*curve, Trial(500, 2.0, 500, fits=False, time=None)]).rows == 30
    assert choose([]) is None
    slower = Trial(29, 2.0, 1, fits=True, time=0.3 * 29 / 30 / 0.985)  # 1.5% behind
    assert choose([slower, *curve[2:]]).rows == 29


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_candidates_are_quarters_and_no_fewer_than_what_is_known_to_fit(most, least):
    found = candidates(most, least)
    if most == 0:
        assert found == []
        return
    assert found[-1] == most
    assert found[0] >= min(least, most)
    assert len(found) <= 4
    assert candidates(100) == [25, 50, 75, 100]
    assert candidates(1) == [1]


@given(
    st.lists(
        st.tuples(st.floats(0.1, 60.0), st.integers(1, 4)), min_size=1, max_size=30, unique_by=lambda p: p[0]
    )
)
def test_merging_changes_no_utterances_batch_and_keeps_the_top(pairs):
    bounds, sizes = map(list, zip(*sorted(pairs), strict=True))
    fewer, their_sizes = merge(bounds, sizes)
    assert fewer[-1] == bounds[-1]
    for (low, size), (high, other) in itertools.pairwise(zip(fewer, their_sizes, strict=True)):
        assert size != other or (size > 1 and low < 0.9 * high)

    def size_of(seconds, bounds, sizes):
        return next(size for bound, size in zip(bounds, sizes, strict=True) if seconds <= bound)

    for bound in bounds:
        assert size_of(bound, fewer, their_sizes) == size_of(bound, bounds, sizes)


def test_what_is_merged_pads_little():
    assert merge([1.0, 2.0, 5.0], [1, 1, 1]) == ([5.0], [1])
    assert merge([8.0, 8.5, 9.0, 9.5, 10.0], [2] * 5) == ([8.5, 10.0], [2, 2])
    assert merge([1.0, 5.0], [2, 2]) == ([1.0, 5.0], [2, 2])


def curve(*peaks):
    return [Trial(peak, 1.0, peak, fits=True, time=1.0) for peak in peaks]


def test_batches_that_do_not_fit_in_turn_lose_the_largest_first():
    found = [Found(1.0, 90, curve(30, 60, 90)), Found(2.0, 80, curve(20, 40, 80)), Found(3.0, 70, curve(70))]
    tried = []

    def within(most):
        return lambda chosen: tried.append([trial.rows for trial in chosen]) or sum(tried[-1]) <= most

    taken = take_turns(found, within(150))
    assert [one.chosen.rows for one in taken] == [30, 40, 70]
    assert tried[0] == [90, 80, 70]
    assert tried[1] == [60, 80, 70]
    assert [one.bound for one in taken] == [1.0, 2.0, 3.0]
    assert take_turns(found, within(1000)) == found
    assert take_turns(found, within(119)) is None  # 30 + 20 + 70 is the least there is


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * 10**9),
        ("4gib", 4 * 2**30),
        ("512M", 512 * 10**6),
        ("1.5 GB", 15 * 10**8),
        ("8e9", 8 * 10**9),
    ],
)
def test_sizes_are_read(text, size):
    assert read_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "4 apples", "0GB", "-1GB", "1.2.3GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(HarkError, match="is no size"):
        read_bytes(text)
