"""What seeds can show, against simulation and another implementation."""

import numpy as np
import pytest
from scipy.stats import binom
from statsmodels.stats.power import TTestPower

from research.analysis.paired import students
from research.analysis.power import MOST, detectable, needed, power


@pytest.mark.parametrize(
    ("effect", "seeds", "alpha"), [(0.5, 3, 0.05), (1.0, 5, 0.05), (0.3, 40, 0.01), (0.0, 8, 0.05)]
)
def test_power_is_that_of_statsmodels(effect, seeds, alpha):
    assert power(effect, seeds, alpha) == pytest.approx(TTestPower().power(effect, seeds, alpha))
    assert power(-effect, seeds, alpha) == pytest.approx(power(effect, seeds, alpha))


@pytest.mark.parametrize("seeds", [3, 5, 20])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_power_rises_with_the_effect_and_is_known_far_out(seeds, alpha):
    found = [power(effect, seeds, alpha) for effect in np.geomspace(0.01, 1000, 40)]
    assert (np.diff(found) > -1e-9).all()
    assert found[-1] == pytest.approx(1)


@pytest.mark.parametrize(("difference", "alpha"), [(1.5, 0.05), (0.8, 0.05), (0.8, 0.05 / 7)])
def test_needed_seeds_show_it_four_times_in_five_and_one_less_does_not(difference, alpha):
    seeds = int(needed(difference, 1.0, alpha))
    assert power(difference, seeds - 1, alpha) < 0.8 <= power(difference, seeds, alpha)
    assert needed(-10 * difference, 10.0, alpha) == seeds
    draws = np.random.default_rng(0).normal(difference, 1.0, (4000, seeds))
    *_, p = students(draws)
    low, high = binom.interval(0.99, 4000, power(difference, seeds, alpha))
    assert low <= (p < alpha).sum() <= high


@pytest.mark.parametrize(("seeds", "alpha"), [(3, 0.05), (5, 0.05), (5, 0.05 / 15), (30, 0.05)])
def test_what_is_detectable_is_shown_four_times_in_five(seeds, alpha):
    least = detectable(0.02, seeds, alpha)
    assert power(least / 0.02, seeds, alpha) == pytest.approx(0.8)
    assert needed(least * 1.0001, 0.02, alpha) == seeds
    draws = np.random.default_rng(1).normal(least, 0.02, (4000, seeds))
    *_, p = students(draws)
    low, high = binom.interval(0.99, 4000, 0.8)
    assert low <= (p < alpha).sum() <= high


def test_where_nothing_can_be_said():
    assert np.isnan(
        [detectable(0.1, 2), needed(0.0, 0.1), needed(0.1, float("nan")), needed(float("nan"), 0.1)]
    ).all()
    assert (needed(0.1, 0.0), needed(100.0, 1.0), detectable(0.0, 5)) == (3, 3, 0)
    assert needed(1e-6, 1.0) == MOST
