"""The Pareto front: which configurations are on it, and how sure that is."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from research.analysis.pareto import dominated, front
from research.errors import HarkError

SCORE = "valid/acc"


def runs(cells, seeds=3, spread=0.01):
    """One row per seed of each (score, cost)."""
    random = np.random.default_rng(1)
    rows = [
        {"run": f"{index}-{seed}", "name": "nest", "seed": seed, "state": "done", "codes": index}
        | {SCORE: score + spread * random.normal(), "device_h": cost * (1 + spread * random.normal())}
        for index, (score, cost) in enumerate(cells)
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    frame.attrs = {"factors": ["codes"], "falls": []}
    return frame


def best(points):
    """What is on the front, pair by pair."""
    return [
        not any(s >= mine[0] and c <= mine[1] and (s, c) != tuple(mine) for s, c in points) for mine in points
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_front_is_what_no_other_beats(seed):
    points = np.random.default_rng(seed).integers(0, 6, (12, 2)).astype(float)  # with ties
    assert (~dominated(points[:, 0], points[:, 1])).tolist() == best(points.tolist())


def test_means_and_intervals_are_over_the_seeds():
    frame = runs([(0.5, 1), (0.6, 2), (0.55, 3)])
    table = front(frame, SCORE).set_index("codes")
    for codes, part in frame.groupby("codes"):
        for column, metric in (("score", SCORE), ("cost", "device_h")):
            low, high = ttest_1samp(part[metric], 0).confidence_interval(0.95)
            row = table.loc[codes]
            assert (row[column], row[f"{column}_low"], row[f"{column}_high"]) == pytest.approx(
                (part[metric].mean(), low, high)
            )
    assert table["front"].tolist() == [True, True, False]
    assert table["sure"].tolist() == pytest.approx([1, 1, 0], abs=0.05)


def test_a_lower_loss_is_better():
    frame = runs([(0.5, 1), (0.6, 2), (0.4, 3)]).rename(columns={SCORE: "valid/loss"})
    assert front(frame, "valid/loss")["front"].tolist() == [True, False, True]
    falls = runs([(0.5, 1), (0.6, 2)]).rename(columns={SCORE: "probe/tones/pretrained"})
    falls.attrs["falls"] = ["probe/tones"]
    assert front(falls, "probe/tones/pretrained")["front"].tolist() == [True, False]


def test_how_sure_is_half_where_two_are_alike():
    random = np.random.default_rng(0)
    frame = runs([(0.5, 1), (0.5, 1)], seeds=8)
    frame["device_h"] = 1.0
    frame[SCORE] = np.tile(random.normal(0.5, 0.01, 8), 2)
    table = front(frame, SCORE)
    assert table["front"].tolist() == [True, True]  # a tie
    assert table["sure"].tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert table.equals(front(frame, SCORE))


def test_one_seed_has_no_interval():
    table = front(runs([(0.5, 1), (0.6, 2)], seeds=1), SCORE)
    assert table["front"].tolist() == [True, True]
    assert table[["score_low", "cost_high", "sure"]].isna().all(axis=None)


def test_what_is_not_done_or_not_a_number_is_left_out_and_counted():
    frame = runs([(0.5, 1), (0.9, 0.5), (0.6, 2)])
    frame.loc[frame["codes"] == 1, "state"] = "failed"
    frame.loc[0, SCORE] = np.nan
    table = front(frame, SCORE).set_index("codes")
    assert table["left_out"].to_dict() == {0: 1, 1: 3, 2: 0}
    assert table["seeds"].to_dict() == {0: 2, 1: 0, 2: 3}
    assert table["front"].to_dict() == {0: True, 1: False, 2: True}


def test_two_runs_of_one_configuration_and_seed_are_no_two_seeds():
    frame = runs([(0.5, 1), (0.6, 2)])
    twins = frame[(frame["codes"] == 0) & (frame["seed"] == 0)].assign(run="twin")
    lame = frame[(frame["codes"] == 1) & (frame["seed"] == 0)].assign(run="lame", device_h=np.nan)
    both = pd.concat([frame, twins, lame], ignore_index=True)
    table = front(both, SCORE).set_index("codes")
    assert (table["seeds"].to_dict(), table["left_out"].to_dict()) == ({0: 2, 1: 3}, {0: 2, 1: 1})


def test_a_metric_that_is_not_there_is_told():
    with pytest.raises(HarkError, match=r"valid/ac: no run has it; did you mean 'valid/acc'"):
        front(runs([(0.5, 1)]), "valid/ac")
    with pytest.raises(
        HarkError, match=r"valid/acc and device_h: no run counts \(failed\); train or probe first"
    ):
        front(runs([(0.5, 1)]).assign(state="failed"), SCORE)
