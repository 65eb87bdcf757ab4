"""Schedules are functions of the step alone."""

import pytest

from research.schedules import Constant, Cosine, Decay, Noam, Ramp, TriStage


def test_noam_is_nemos_formula_around_its_peak():
    """NeMo: 5 * d^-.5 * min(n^-.5, n * w^-1.5), step n from 1, for d = 512 and w = 25,000."""
    noam, peak = Noam(warmup=25_000), 5 * (512 * 25_000) ** -0.5
    assert peak == pytest.approx(1.4e-3, rel=2e-3)
    for n in (1, 100, 24_999, 25_000, 25_001, 400_000):
        expected = 5 * 512**-0.5 * min(n**-0.5, n * 25_000**-1.5)
        assert peak * noam(n - 1, 500_000) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", [Constant(warmup=10), Cosine(warmup=10), TriStage(), Noam(warmup=10)])
def test_factors_stay_between_zero_and_one_and_the_first_step_moves(schedule):
    factors = [schedule(step, 100) for step in range(120)]
    assert 0 < factors[0] < 0.2
    assert max(factors) == pytest.approx(1.0)
    assert min(factors) >= 0


def test_cosine_ends_at_its_floor_and_never_restarts():
    cosine = Cosine(warmup=10, floor=0.1)
    assert cosine(100, 100) == cosine(150, 100) == pytest.approx(0.1)


def test_tri_stage_rises_holds_and_falls():
    tri = TriStage(rise_share=0.1, hold_share=0.4, floor=0.01)
    assert tri(49, 1000) == pytest.approx(0.5)
    assert tri(300, 1000) == 1.0
    assert tri(999, 1000) == pytest.approx(0.01)


def test_ramp_and_decay_stop_at_their_end():
    assert [Ramp(start=0, end=1, steps=4)(n) for n in (0, 2, 4, 9)] == [0, 0.5, 1, 1]
    assert Decay(start=2, end=0.5, rate=0.5)(1) == 1
    assert Decay(start=2, end=0.5, rate=0.5)(9) == 0.5
