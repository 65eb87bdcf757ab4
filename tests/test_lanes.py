from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.config import Cut, Speed
from research.data.streams.batches import padding
from research.data.streams.lanes import Course
from research.data.streams.slices import DRAWS, Slices
from research.errors import HarkError
from tests.streams import (
    Durations,
    batches_of,
    epoch_of,
    everyone,
    flat,
    lanes_of,
    name_of,
    names,
    seconds,
    stream,
    take,
)


def epoch(lanes, number):
    return [names(lanes.clips(number, lane)) for lane in range(lanes.count)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 250), min_size=1, max_size=3), min_size=1, max_size=4),
    st.integers(1, 9),
    st.integers(0, 3),
)
def test_an_epoch_of_all_lanes_is_everything_once(sizes, count, number):
    total = sum(map(sum, sizes))
    streams = [stream(f"s{i}-", *each, share=sum(each) / total) for i, each in enumerate(sizes)]
    lanes = lanes_of(*streams, lanes=count)
    found = epoch(lanes, number)
    assert sorted(flat(found)) == everyone(*streams)
    heard = [len(lane) for lane in found]
    assert max(heard) - min(heard) <= 1


def test_epochs_and_seeds_differ_and_repeat():
    one = stream("a", 300, 150, 70)
    lanes, again, other = lanes_of(one), lanes_of(one), lanes_of(one, seed=1)
    first = epoch(lanes, 0)
    assert epoch(again, 0) == first
    for wrong in (epoch(lanes, 1), epoch(other, 0)):
        assert wrong != first
        assert [set(lane) for lane in wrong] != [set(lane) for lane in first]  # lanes exchange utterances too


def test_each_pass_is_in_another_order_of_shards_and_within_them():
    course = Course(0, stream("a", *[40] * 20), seed=0)
    laps = [[clip for clip, _ in course.between(800 * lap, 800 * (lap + 1))] for lap in (0, 1)]
    shards = [[clip.row // 40 for clip in lap][::40] for lap in laps]
    assert sorted(shards[0]) == sorted(shards[1]) == list(range(20))
    assert shards[0] != shards[1]
    rows = [[clip.row % 40 for clip in lap if clip.row // 40 == 3] for lap in laps]
    assert rows[0] != rows[1] != list(range(40))


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (99, 101), (250, 700), (519, 521), (1039, 1600), (300, 300)]
)
def test_a_sequence_can_be_entered_anywhere(start, stop):
    def between(*span):
        return [
            (clip.row, draws) for clip, draws in Course(0, stream("a", 300, 150, 70), seed=3).between(*span)
        ]

    assert between(start, stop) == between(0, 1600)[start:stop]


def test_shares_hold_in_every_epoch_and_each_stream_keeps_its_own_passes():
    big, small = stream("big", 3000, 1000, share=0.7), stream("small", 90, share=0.3)
    lanes = lanes_of(big, small, lanes=3)
    seen = Counter[str]()
    for number in range(4):
        heard = flat(epoch(lanes, number))
        assert len(heard) == 4090
        assert sum(name.startswith("small") for name in heard) / 4090 == pytest.approx(0.3, abs=0.01)
        seen.update(heard)
    counts = {who: {seen[name] for name in everyone(one)} for who, one in (("big", big), ("small", small))}
    assert all(max(each) - min(each) <= 1 for each in counts.values())
    assert min(counts["small"]) == 4 * 1227 // 90


def test_streams_take_turns_in_every_lane():
    lanes = lanes_of(stream("a", 400, share=0.5), stream("b", 400, share=0.5), lanes=2)
    for lane in epoch(lanes, 0):
        first = sum(name.startswith("a") for name in lane[:100])
        assert 30 < first < 70


def test_a_share_of_less_than_an_utterance_is_refused():
    with pytest.raises(HarkError, match=r"tiny: a share of 1e-05 in 200 utterances is less than one"):
        lanes_of(stream("big", 100, share=0.99999), stream("tiny", 100, share=0.00001))


def slices(**settings):
    return Slices(lanes_of(stream("a", 1), **settings).slices.cfg)


def heard(duration, draws=(0.5, 0.5, 0.5), **settings):
    """Start, duration and speed of what is heard of an utterance; what was left out."""
    made = slices(min_seconds=0.5, **settings)
    (clip,) = Durations("a", np.array([duration])).clips(0, 1)
    found = [(one.start, one.duration, one.speed) for one in made.of(clip, {}, draws)]
    return found, dict(made.left_out)


def test_windows_reach_the_end_and_the_last_is_shorter():
    assert heard(2.0, window_seconds=2.0) == ([(0, 2, 1)], {})
    assert heard(5.0, window_seconds=2.0) == ([(0, 2, 1), (2, 2, 1), (4, 1, 1)], {})
    assert heard(5.0, window_seconds=3.0, window_hop=1.0) == ([(0, 3, 1), (1, 3, 1), (2, 3, 1)], {})
    assert heard(5.5, window_seconds=1.0, window_hop=3.0) == ([(0, 1, 1), (3, 1, 1)], {})
    assert heard(4.25, window_seconds=2.0) == ([(0, 2, 1), (2, 2, 1)], {"under 0.5 s": 1})


def test_truncation_keeps_the_part_that_is_asked_for():
    assert heard(5.0, truncate_seconds=2.0, truncate=Cut.start) == ([(0, 2, 1)], {})
    assert heard(5.0, truncate_seconds=2.0, truncate=Cut.end) == ([(3, 2, 1)], {})
    assert heard(5.0, truncate_seconds=2.0) == ([(1.5, 2, 1)], {})
    assert heard(1.0, truncate_seconds=2.0) == ([(0, 1, 1)], {})


def test_speed_changes_what_is_heard_and_filters_come_after_it():
    speed = Speed(prob=0.5, factors=[0.5, 2.0])
    assert heard(3.0, speed=speed) == ([(0, 3, 1)], {})
    assert heard(3.0, (0, 0.49, 0.2), speed=speed) == ([(0, 6, 0.5)], {})
    assert heard(3.0, (0, 0.49, 0.8), speed=speed, max_seconds=5.0) == ([(0, 1.5, 2)], {})
    assert heard(3.0, (0, 0.49, 0.2), speed=speed, max_seconds=5.0) == ([], {"over 5 s": 1})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.2, 30.0), min_size=1, max_size=20),
    st.sampled_from([0.0, 2.0, 7.5]),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([0.0, 1.5, 6.0]),
)
def test_durations_are_those_that_are_heard(whole, window, hop, cut):
    made = slices(window_seconds=window, window_hop=hop if window else 0.0, truncate_seconds=cut)
    clips = Durations("a", np.array(whole)).clips(0, len(whole))
    found = [one.duration for clip in clips for one in made.of(clip, {}, [0.5] * DRAWS)]
    assert sorted(made.durations(np.array(whole))) == pytest.approx(sorted(found))


def test_draws_differ_between_utterances_and_passes_and_repeat():
    def draws(seed, lap):
        found = Course(0, stream("a", 300), seed).between(300 * lap, 300 * lap + 300)
        return {clip.row: tuple(drawn) for clip, drawn in found}

    assert draws(0, 0) == draws(0, 0)
    assert len({*draws(0, 0).values(), *draws(0, 1).values(), *draws(1, 0).values()}) == 900


def test_only_lines_that_say_so_are_kept_and_the_rest_counted():
    one, two = stream("a", 100, share=0.5, tags={"lang": "en"}), stream("b", 100, share=0.5, lang="de")
    lanes = lanes_of(one, two, keep={"parity": 1, "lang": ["en", "fr"]})
    assert sorted(flat(epoch(lanes, 0))) == sorted(f"a0-{i}" for i in range(1, 100, 2))
    assert lanes.slices.left_out == {"data.keep": 150}


def test_a_filter_that_leaves_nothing_is_an_error():
    with pytest.raises(HarkError, match=r"data.keep=\{'lang': 'xx'\}: leaves no utterance"):
        next(batches_of(stream("a", 50), keep={"lang": "xx"}).read())
    with pytest.raises(HarkError, match=r"every utterance is left out; they last 0.67 to 8.81 s"):
        batches_of(stream("a", 50), min_seconds=50.0)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"keep": "en"}, r"data.keep=en: must be values of keys, as \{lang:\[en,de\]\}"),
        ({"lanes": 0}, "data.lanes=0: must be at least 1"),
        ({"truncate_seconds": -1.0}, "data.truncate_seconds=-1: must be at least 0"),
        ({"window_hop": 1.0}, "data.window_hop=1: needs data.window_seconds"),
        ({"speed": Speed(prob=1.5)}, "data.speed.prob=1.5: must be from 0 to 1"),
        ({"speed": Speed(prob=0.5, factors=[0.0])}, "data.speed.factors=.*: must be speeds above 0"),
    ],
)
def test_settings_without_sense_are_refused(wrong, told):
    with pytest.raises(HarkError, match=told):
        lanes_of(stream("a", 10), **wrong)


FIXED = {"bounds": [2.0, 4.0, 8.0, 20.0], "sizes": [9, 6, 4, 2]}


@pytest.mark.parametrize(
    "how", [{}, FIXED, {"quadratic_seconds": 5.0}, {"max_rows": 3}, {"batch_seconds": 2.0}]
)
@pytest.mark.parametrize("number", [0, 2])
def test_batches_drop_nothing_and_keep_to_their_limits(how, number):
    one = stream("a", 400, 37)
    one.shards[0].durations[7] = 20.0  # the last bound itself
    batches = batches_of(one, **how)
    portions = epoch_of(batches, number)
    assert sorted(flat(names(portion.clips) for portion in portions)) == everyone(one)
    for portion in portions:
        longest, rows = max(clip.duration for clip in portion.clips), len(portion.clips)
        assert rows <= batches.sizes[np.searchsorted(batches.bounds, longest)]
        if how is not FIXED:
            cost = longest + longest**2 / (batches.cfg.quadratic_seconds or np.inf)
            assert rows == 1 or rows * cost <= batches.cfg.batch_seconds
            assert rows <= (batches.cfg.max_rows or rows)


def test_bounds_that_leave_utterances_out_are_refused_and_rounding_does_not():
    one = stream("a", 40)
    one.shards[0].durations[:] = np.float32(15.3)  # a little above 15.3
    batches = batches_of(one, bounds=[5.0, 15.3], sizes=[3, 2])
    assert sum(len(portion.clips) for portion in epoch_of(batches, 0)) == 40
    for settings_of in ({}, {"speed": Speed(prob=0.1, factors=[0.9])}):
        with pytest.raises(HarkError, match=r"the last is 1\d.\d\d s, but an utterance lasts"):
            batches_of(one, bounds=[5.0, 15.2 if not settings_of else 16.9], **settings_of)
    batches_of(one, bounds=[5.0, 17.1], speed=Speed(prob=0.1, factors=[0.9]))


def test_there_are_as_many_lanes_as_fill_their_buffers():
    sizes = [lanes_of(stream("a", size), buffer=100, lanes=4).count for size in (1, 199, 200, 401, 9999)]
    assert sizes == [1, 1, 2, 4, 4]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_source_with_fewer_utterances_than_lanes_works(size):
    batches = batches_of(stream("a", size), lanes=4, buffer=1)
    found = Counter(flat(names(portion.clips) for portion in islice(batches.read(), 40)))
    assert sorted(found) == everyone(stream("a", size))


def test_ranks_share_one_order():
    batches = batches_of(stream("a", 300))
    alone = take(batches.read(), 120)
    for world in (2, 3, 5):
        shared = [take(batches.read(0, rank, world), 120 // world) for rank in range(world)]
        assert [batch for step in zip(*shared, strict=True) for batch in step] == alone


def test_reading_goes_on_anywhere():
    """Also in the middle of an epoch, and on another number of ranks."""
    batches = batches_of(stream("a", 150), lanes=3)
    alone = list(islice(batches.read(), 200))
    assert max(portion.epoch for portion in alone) >= 2
    wanted = take(iter(alone), 200)
    for cut in (1, 2, 3, 17, 50, 61, 62, 63, 120):
        begun = [[0, 0]] * 3
        for portion in alone[:cut]:
            begun[portion.lane] = [portion.epoch, portion.first]
        assert take(batches.read(cut, 0, 1, begun), 40) == wanted[cut : cut + 40]
        second = take(batches.read(cut, 1, 2, begun), 20)
        assert second == wanted[cut + 1 : cut + 41 : 2]


def test_lanes_take_the_same_buckets_in_turn_in_every_epoch():
    """So that ranks read audio of like length in every step."""
    batches = batches_of(stream("a", 2000), lanes=2, buffer=500)
    portions = list(islice(batches.read(), 1200))
    bucket = [np.searchsorted(batches.bounds, max(clip.duration for clip in p.clips)) for p in portions]
    assert set(bucket) == set(range(6))
    for number in (0, 1, 2):
        steps = [k for k in range(0, 1200, 2) if {p.epoch for p in portions[k : k + 2]} == {number}][:50]
        assert sum(bucket[k] == bucket[k + 1] for k in steps) >= 40


def test_more_buckets_make_less_padding():
    batches = [
        batches_of(stream("a", 4000), buckets=buckets, lanes=2, buffer=1000) for buckets in (4, 10, 25)
    ]
    found = [padding(epoch_of(each, 0)) for each in batches]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.05
    rows = [[clip.duration for clip in portion.clips] for portion in epoch_of(batches[0], 0)]
    held = sum(len(durations) * max(durations) for durations in rows)
    assert found[0] == pytest.approx(1 - sum(flat(rows)) / held)


def test_a_long_buffer_is_made_where_batches_need_it():
    """Otherwise no bucket would fill a batch, and batches would be small."""
    batches = batches_of(stream("a", 3000), lanes=1, buffer=10, bounds=[2.0, 20.0], sizes=[60, 40])
    sizes = [len(portion.clips) for portion in epoch_of(batches, 0)]
    assert sorted(set(sizes[:-2])) == [40, 60]
    assert name_of(next(batches.read()).clips[0]).startswith("a0-")
    assert len(seconds(3)) == 3
