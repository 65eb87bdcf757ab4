import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.config import Data
from research.data.plan import Plan, batch_sizes, bucket_bounds, by_budget, held_out, in_order
from research.errors import HarkError


def speech(utterances=1000, seed=0):
    return np.random.default_rng(seed).lognormal(1.5, 0.7, utterances).clip(0.3, 40.0)


def make(durations, batch_seconds=60.0, buckets=10, group=1, seed=0):
    budget = by_budget(durations, Data(batch_seconds=batch_seconds, buckets=buckets))
    return Plan(durations, *budget, group=group, seed=seed)


def epoch(plan, number):
    return [plan[b] for b in range(number * plan.per_epoch, (number + 1) * plan.per_epoch)]


def test_buckets_pad_little_and_cover_the_longest_utterance():
    durations = speech(10_000)
    bounds = bucket_bounds(durations, 30)
    assert len(bounds) == 30
    assert bounds[-1] == durations.max()
    padded = bounds[np.searchsorted(bounds, durations)].sum()
    for seed in range(9):  # any other bounds do worse
        other = np.sort(
            np.append(np.random.default_rng(seed).choice(durations, 29, replace=False), bounds[-1])
        )
        assert padded < other[np.searchsorted(other, durations)].sum()


@pytest.mark.parametrize("durations", [[3.0], [2.0] * 50, [1.0, 9.0], [1e-3, 60.0, 60.0]])
def test_few_or_equal_durations_make_fewer_buckets(durations):
    durations = np.array(durations)
    bounds = bucket_bounds(durations, 30)
    assert bounds[-1] == durations.max()
    assert (np.diff(bounds) > 0).all()
    assert set(bounds) <= set(durations)


def test_batch_sizes_fill_the_budget_and_are_never_zero():
    assert batch_sizes(np.array([1.0, 3.0, 10.0, 99.0]), 30.0).tolist() == [30, 10, 3, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.1, 60.0), min_size=1, max_size=200),
    st.floats(1.0, 200.0),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_every_epoch_has_every_utterance_once_within_the_budget(
    durations, batch_seconds, buckets, group, number
):
    durations = np.array(durations)
    plan = make(durations, batch_seconds, buckets, group)
    batches = [item.rows for item in epoch(plan, number)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(durations)))
    for rows in batches:
        assert len(rows) > 0
        assert len(rows) == 1 or len(rows) * durations[rows].max() <= batch_seconds + 1e-9
        assert len(set(np.searchsorted(plan.bounds, durations[rows]))) == 1


def test_batches_of_a_bucket_are_filled_evenly():
    plan = make(np.full(101, 1.0), batch_seconds=50.0)
    assert sorted(len(item.rows) for item in epoch(plan, 0)) == [33, 34, 34]


def test_epochs_and_seeds_differ_and_repeat():
    durations = speech()
    plan, again, other = make(durations), make(durations), make(durations, seed=1)
    first, second = epoch(plan, 0), epoch(plan, 1)
    assert {item.epoch for item in first} == {0}
    assert {item.epoch for item in second} == {1}
    assert [i.rows.tolist() for i in first] == [i.rows.tolist() for i in epoch(again, 0)]
    for wrong in (second, epoch(other, 0)):
        assert [i.rows.tolist() for i in first] != [i.rows.tolist() for i in wrong]
        assert {frozenset(i.rows.tolist()) for i in first} != {frozenset(i.rows.tolist()) for i in wrong}


def test_any_batch_can_be_asked_for_at_any_time():
    durations = speech(300)
    straight = [make(durations)[b].rows.tolist() for b in range(200)]
    plan = make(durations)
    for b in np.random.default_rng(0).permutation(200).tolist():
        assert plan[b].rows.tolist() == straight[b]


@pytest.mark.parametrize("group", [2, 6, 16])
def test_a_step_reads_one_bucket_wherever_it_can(group):
    durations = speech(3000)
    plan = make(durations, batch_seconds=20.0, buckets=8, group=group)
    bucket = np.searchsorted(plan.bounds, durations)
    assert plan.per_epoch % group  # steps cross the ends of epochs
    batches = np.bincount(plan.bucket)
    possible = int((batches // group).sum())
    for number in range(5):
        start = -(-number * plan.per_epoch // group)
        end = (number + 1) * plan.per_epoch // group
        steps = [[bucket[plan[s * group + i].rows[0]] for i in range(group)] for s in range(start, end)]
        assert sum(len(set(step)) == 1 for step in steps) >= possible - 1
        mixed = [step for step in steps if len(set(step)) > 1]
        assert len(mixed) <= len(plan.bounds) + 1


def test_a_step_that_crosses_epochs_shifts_no_other_step():
    durations = np.array([1.0] * 80 + [10.0] * 9)  # 8 and 9 batches
    plan = Plan(durations, np.array([1.0, 10.0]), np.array([10, 1]), group=4)
    steps = [
        {durations[plan[4 * step + i].rows[0]] for i in range(4)} for step in range(4 * plan.per_epoch // 4)
    ]
    assert [len(step) for step in steps] == [1] * 17


def test_epochs_begin_in_any_bucket():
    durations = speech(3000)
    plan = make(durations, batch_seconds=20.0, buckets=8, group=16)
    firsts = {
        int(np.searchsorted(plan.bounds, durations[plan[e * plan.per_epoch].rows[0]])) for e in range(1, 9)
    }
    assert len(firsts) > 2


@pytest.mark.parametrize("group", [1, 4])
def test_steps_change_buckets_all_the_time(group):
    durations = speech(3000)
    plan = make(durations, batch_seconds=20.0, buckets=8, group=group)
    buckets = [np.searchsorted(plan.bounds, durations[item.rows[0]]) for item in epoch(plan, 0)][::group]
    assert np.count_nonzero(np.diff(buckets)) > len(buckets) / 2


def test_explicit_bounds_that_miss_the_longest_utterance_are_refused():
    with pytest.raises(HarkError, match=r"an utterance lasts 9.00 s, the longest bucket 5.00 s"):
        Plan(np.array([1.0, 9.0]), np.array([2.0, 5.0]), np.array([4, 2]))


@pytest.mark.parametrize(("key", "value"), [("buckets", 0), ("batch_seconds", 0.0), ("batch_seconds", -1.0)])
def test_senseless_settings_are_refused(key, value):
    with pytest.raises(HarkError, match=rf"data.{key}={value:g}: must be"):
        by_budget(speech(), Data(**{key: value}))


def test_a_plan_keeps_to_bounds_and_sizes_of_the_config():
    durations = speech()
    cfg = Data(bounds=[2.0, 5.0, 12.5, 40.0], sizes=[17, 8, 3, 1], batch_seconds=1e6)
    plan = Plan(durations, *by_budget(durations, cfg))
    for item in epoch(plan, 0):
        bucket = int(np.searchsorted(cfg.bounds, durations[item.rows].max()))
        assert (durations[item.rows] > [0.0, *cfg.bounds][bucket]).all()
        assert len(item.rows) <= cfg.sizes[bucket]
    counts = np.bincount(np.searchsorted(cfg.bounds, durations))
    assert plan.per_epoch == sum(-(-counts // cfg.sizes))
    assert by_budget(durations, Data(bounds=cfg.bounds, batch_seconds=80.0))[1].tolist() == [40, 16, 6, 2]


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (
            Data(bounds=[2.0, 5.0]),
            r"data.bounds: the last is 5.00 s, but .* 9.00 s; .*`hark bins`.*max_seconds=5$",
        ),
        (Data(bounds=[9.0, 2.0]), r"data.bounds=\[9.0, 2.0\]: must rise"),
        (Data(bounds=[0.0, 9.0]), r"data.bounds=\[0.0, 9.0\]: must rise"),
        (
            Data(bounds=[2.0, 9.0], sizes=[3]),
            r"data.sizes=\[3\]: must be one number of rows, .* each of 2 bounds",
        ),
        (
            Data(bounds=[2.0, 9.0], sizes=[3, 0]),
            r"data.sizes=\[3, 0\]: must be one number of rows, 1 or more",
        ),
    ],
)
def test_bins_that_do_not_fit_are_refused(cfg, told):
    with pytest.raises(HarkError, match=told):
        by_budget(np.array([1.0, 9.0]), cfg)


def test_longer_utterances_than_the_bins_foresee_can_be_held_out():
    durations = np.array([1.0, 4.0, 4.5, 9.0, 11.0, 50.0])
    cfg = Data(bounds=[2.0, 5.0], sizes=[9, 5])
    bounds, sizes = held_out(durations, cfg)
    assert bounds.tolist() == [2.0, 5.0, 50.0]
    assert sizes.tolist() == [9, 5, 1]
    assert held_out(durations[:5], cfg)[1].tolist() == [9, 5, 2]  # 22 of 25 s
    items = in_order(durations, *held_out(durations, cfg))
    assert [item.rows.tolist() for item in items] == [[0], [1, 2], [3], [4], [5]]
    assert [part.tolist() for part in held_out(durations[:3], cfg)] == [[2.0, 5.0], [9, 5]]


def test_padding_is_what_the_batches_hold():
    durations = speech()
    plan = make(durations)
    held = sum(len(item.rows) * durations[item.rows].max() for item in epoch(plan, 0))
    assert plan.padding() == pytest.approx(1 - durations.sum() / held)
    assert plan.padding() < make(durations, buckets=3).padding()


@pytest.mark.parametrize("group", [1, 4])
def test_batches_drawn_together_pad_less_than_their_buckets_do(group):
    durations = speech(20_000)
    plan = make(durations, buckets=30, group=group)
    filled = plan.bounds[np.searchsorted(plan.bounds, durations)].sum()
    assert plan.padding() < 0.35 * (1 - durations.sum() / filled)
    assert plan.padding() < 0.03


@pytest.mark.parametrize("utterances", [300, 3_000])
def test_who_shares_a_batch_changes_with_every_epoch(utterances):
    """Sorting whole buckets would make nearly the same batches again and again."""
    plan = make(speech(utterances), batch_seconds=30.0, buckets=4, group=8)

    def pairs(number):
        return {
            pair for item in epoch(plan, number) for pair in itertools.pairwise(sorted(item.rows.tolist()))
        }

    first, second = pairs(0), pairs(1)
    assert len(first & second) < 0.1 * len(first)


def test_validation_is_in_order_and_whole():
    durations = speech(200)
    items = in_order(durations, *by_budget(durations, Data(batch_seconds=30.0, buckets=5)))
    read = np.concatenate([item.rows for item in items])
    assert sorted(read.tolist()) == list(range(200))
    assert (np.diff(durations[read]) >= 0).all()
    assert all(len(i.rows) == 1 or len(i.rows) * durations[i.rows].max() <= 30.0 for i in items)
    again = in_order(durations, *by_budget(durations, Data(batch_seconds=30.0, buckets=5)))
    assert all((a.rows == b.rows).all() for a, b in itertools.zip_longest(items, again))
