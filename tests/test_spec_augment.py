"""SpecAugment masks whole bands and stretches of valid frames, row by row, and writes nothing in place."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from research.contracts import Seq
from research.errors import HarkError
from research.nn.spec_augment import SpecAugment, stretches

LENGTHS = [100, 60, 1, 0]


def frames(lengths=LENGTHS, dim=80):
    torch.manual_seed(0)
    return Seq(torch.rand(len(lengths), max(lengths) + 10, dim) + 1, torch.tensor(lengths))


def masked(feats, seed=0, **settings):
    torch.manual_seed(seed)
    return SpecAugment(**settings)(feats)


def runs(hit):
    """How long each stretch of True is: bool (n,) -> list."""
    lengths, current = [], 0
    for one in [*hit.tolist(), False]:
        if one:
            current += 1
        elif current:
            lengths.append(current)
            current = 0
    return lengths


def test_a_stretch_of_frames_is_at_most_its_share_of_the_row():
    feats, widths = frames(), []
    for seed in range(200):
        out = masked(feats, seed, freq_masks=0, time_masks=1, time_width=0.1)
        hit = (out.x == 0).all(2)  # (B, S)
        assert ((out.x == 0).any(2) == hit).all()
        for row, length in enumerate(LENGTHS):
            found = runs(hit[row])
            assert len(found) <= 1
            assert sum(found) <= length // 10
        widths.append(int(hit[0].sum()))
    assert set(widths) == set(range(11))  # each width occurs, none and the widest too


def test_a_stretch_can_be_given_in_frames_and_fits_a_shorter_row():
    feats, longest = frames([100, 5]), 0
    for seed in range(100):
        hit = (masked(feats, seed, freq_masks=0, time_masks=1, time_width=20).x == 0).all(2)
        assert hit[0].sum() <= 20
        assert hit[1].sum() <= 5
        longest = max(longest, int(hit[0].sum()))
    assert longest > 10


def test_a_band_is_at_most_its_width_and_runs_through_all_valid_frames():
    feats, touched = frames([50]), torch.zeros(80, dtype=torch.bool)
    for seed in range(300):
        out = masked(feats, seed, freq_masks=1, freq_width=4, time_masks=0)
        hit = out.x[0, :50] == 0  # (S, F)
        assert (hit == hit[0]).all()
        assert sum(runs(hit[0])) <= 4
        touched |= hit[0]
    assert touched.all()  # the first and the last feature too


def test_rows_draw_masks_of_their_own():
    out = masked(frames([100] * 4))
    assert len({row.numpy().tobytes() for row in out.x == 0}) == 4


def test_padding_and_lengths_stay_and_the_input_is_left_alone():
    feats = frames()
    before, lengths = feats.x.clone(), feats.lengths.clone()
    out = masked(feats, freq_masks=10, freq_width=80, time_masks=10, time_width=0.9)
    assert torch.equal(feats.x, before)
    assert torch.equal(out.lengths, lengths)
    assert torch.equal(out.x[~feats.valid], before[~feats.valid])
    assert (out.x[feats.valid] == 0).any()


def test_the_seed_decides():
    feats = frames()
    assert torch.equal(masked(feats, 1).x, masked(feats, 1).x)
    assert not torch.equal(masked(feats, 1).x, masked(feats, 2).x)


def test_the_value_is_a_setting_and_no_masks_change_nothing():
    feats = frames()
    assert (masked(feats, value=-7.0).x == -7).any()
    assert torch.equal(masked(feats, freq_masks=0, time_masks=0).x, feats.x)


def test_a_mask_costs_no_look_at_the_device():
    assert masked(Seq(torch.zeros(2, 50, 80, device="meta"), torch.tensor([50, 20]))).x.shape == (2, 50, 80)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(0, 60), st.integers(0, 5))
def test_stretches_stay_inside(lengths, longest, count):
    mask = stretches(torch.tensor(lengths), longest, count, 40)
    assert mask.shape == (len(lengths), 40)
    assert not (mask & (torch.arange(40) >= torch.tensor(lengths)[:, None])).any()
    assert (mask.sum(1) <= count * longest).all()


def test_a_negative_width_is_refused():
    with pytest.raises(HarkError, match=r"time_width=-0\.1"):
        SpecAugment(time_width=-0.1)
