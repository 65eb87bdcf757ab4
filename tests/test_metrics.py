"""Metrics against hand cases, scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_curve

from research.errors import HarkError
from research.evaluation.metrics import (
    accuracy,
    all_trials,
    confusion,
    edit_counts,
    edits,
    eer,
    error_rate,
    greedy,
    macro_accuracy,
    min_dcf,
    score_trials,
)


def drawn(seed, count=500, shift=1.0):
    source = np.random.default_rng(seed)
    same = source.random(count) < 0.3
    return np.round(source.normal(size=count) + shift * same, 2), same  # rounded: with ties


def test_eer_by_hand():
    assert eer([3.0, 2.0, 1.0, 0.0], [True, True, False, False]) == 0
    assert eer([0.0, 1.0, 2.0, 3.0], [True, True, False, False]) == 1
    assert eer([4.0, 3.0, 2.0, 1.0], [True, False, True, False]) == 0.5
    assert eer([1.0, 1.0], [True, False]) == 0.5  # one tie: the line from (1, 0) to (0, 1)
    assert eer(torch.tensor([5.0, 4, 3, 2, 1]), torch.tensor([1, 1, 0, 1, 0])) == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(5))
def test_eer_is_the_crossing_of_an_interpolated_roc(seed):
    scores, same = drawn(seed)
    false_alarms, hits, _ = roc_curve(same, scores, drop_intermediate=False)
    crossing = brentq(lambda x: 1.0 - x - interp1d(false_alarms, hits)(x), 0.0, 1.0)
    assert eer(scores, same) == pytest.approx(
        crossing, abs=2e-3
    )  # where the curve jumps up, ours is on the step


@pytest.mark.parametrize("seed", range(3))
def test_min_dcf_is_the_least_cost_of_any_threshold(seed):
    scores, same = drawn(seed)
    costs = []
    for threshold in [-np.inf, *np.unique(scores), np.inf]:
        accepted = scores >= threshold
        miss, alarm = (~accepted & same).sum() / same.sum(), (accepted & ~same).sum() / (~same).sum()
        costs.append(10 * 0.05 * miss + 0.95 * alarm)
    assert min_dcf(scores, same, p_target=0.05, c_miss=10) == pytest.approx(min(costs) / 0.5)


def test_min_dcf_of_nothing_known_is_1_and_of_perfection_0():
    assert min_dcf([1.0, 1.0, 1.0], [True, False, False]) == pytest.approx(1)
    assert min_dcf([2.0, 1.0, 1.0], [True, False, False]) == 0


def test_trials_that_tell_nothing_are_refused():
    with pytest.raises(HarkError, match="3 of 3 pairs are the same"):
        eer([1.0, 2.0, 3.0], [True] * 3)
    with pytest.raises(HarkError, match="1 of 2 scores are not finite"):
        eer([1.0, np.nan], [True, False])


def test_trials_are_scored_by_cosine():
    embeddings = torch.tensor([[1.0, 0.0], [3.0, 3.0], [0.0, -2.0], [0.0, 0.0]])
    scores = score_trials(embeddings, [[0, 1], [0, 2], [1, 2], [0, 3]])
    assert scores == pytest.approx([2**-0.5, 0, -(2**-0.5), 0])


def test_all_trials_are_every_pair_once():
    pairs, same = all_trials(["a", "b", "a"])
    assert pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert same.tolist() == [False, True, False]


def test_error_rates_by_hand():
    assert edits("kitten", "sitting") == 3
    assert error_rate(["kitten", "ab"], ["sitting", ""]) == pytest.approx(5 / 8)
    assert error_rate([["aa", "b"]], [["aa", "b", "b", "b", "b"]]) == 1.5
    assert edit_counts([[1, 2], []], [[2], [7]]).tolist() == [[1, 2], [1, 0]]
    assert edit_counts([], []).shape == (0, 2)
    with pytest.raises(HarkError, match="not one token"):
        error_rate([[]], [[1]])


def levenshtein(a, b):
    table = np.zeros((len(a) + 1, len(b) + 1), int)
    table[:, 0], table[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = min(table[i, j] + (x != y), table[i, j + 1] + 1, table[i + 1, j] + 1)
    return table[-1, -1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=8), st.lists(st.integers(0, 3), max_size=8))
def test_edits_are_the_levenshtein_distance(a, b):
    assert edits(a, b) == levenshtein(a, b)


def test_greedy_answers_lose_repetitions_and_blanks():
    assert greedy([5, 1, 1, 5, 1, 2, 2, 5], blank=5) == [1, 1, 2]
    assert greedy([0, 0, 5, 0], blank=5) == [0, 0]
    assert greedy([], blank=5) == []


def test_confusion_and_accuracies_are_scikit_learns():
    source = np.random.default_rng(0)
    labels, answers = source.integers(0, 5, 200), source.integers(0, 6, 200)  # class 5 never occurs
    counts = confusion(labels, answers, 6)
    assert np.array_equal(counts, confusion_matrix(labels, answers, labels=range(6)))
    assert accuracy(counts) == pytest.approx((labels == answers).mean())
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        assert macro_accuracy(counts) == pytest.approx(balanced_accuracy_score(labels, answers))
    assert accuracy(confusion([], [], 3)) == macro_accuracy(confusion([], [], 3)) == 0
