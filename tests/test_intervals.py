"""Intervals hold the truth as often as they say."""

import pytest
import torch
from scipy.stats import t

from research.evaluation.intervals import estimate
from tests.sentences import answers


def test_with_equal_seeds_the_interval_is_that_of_a_mean_over_utterances():
    rights = torch.tensor([70.0, 50.0, 65.0, 40.0, 80.0])
    found = estimate([answers(*rights), answers(*rights)])["share"]
    reach = t.ppf(0.975, 4) * (rights / 100).std().item() / 5**0.5
    assert found.mean == pytest.approx(0.61)
    assert (found.low, found.high) == pytest.approx((0.61 - reach, 0.61 + reach))


def test_with_equal_utterances_the_interval_is_that_of_a_mean_over_seeds():
    found = estimate([answers(50, 50), answers(60, 60), answers(70, 70)])["share"]
    reach = t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert found.values == pytest.approx([0.5, 0.6, 0.7])
    assert (found.low, found.high) == pytest.approx((0.6 - reach, 0.6 + reach))


@pytest.mark.parametrize(("seed_sd", "utterance_sd", "noise_sd"), [(0.03, 0.01, 0.05), (0.02, 0.1, 0.02)])
def test_intervals_of_three_seeds_hold_the_truth(seed_sd, utterance_sd, noise_sd):
    torch.manual_seed(0)
    held = 0
    for _ in range(300):
        hardness = utterance_sd * torch.randn(60)
        rates = [0.6 + hardness + seed_sd * torch.randn(1) + noise_sd * torch.randn(60) for _ in range(3)]
        found = estimate([answers(*(100 * rate)) for rate in rates])["share"]
        held += found.low <= 0.6 <= found.high
    assert held / 300 >= 0.94
