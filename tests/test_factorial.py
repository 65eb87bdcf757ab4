"""Main effects and interactions against an analysis of variance, and designs with holes."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.anova import AnovaRM

from research.analysis.design import balanced
from research.analysis.effects import COLUMNS, effects
from research.analysis.factorial import interactions, main_effects
from research.errors import HarkError
from tests.ablations import GRID, runs, scores

PAIR = {"augmentation": ("none", "speaker_noise"), "codes": (64, 512)}


def test_two_levels_are_tested_as_an_analysis_of_variance_does():
    frame = runs(PAIR, scores(np.random.default_rng(0), PAIR, 6, reacts=0.5))
    table = AnovaRM(frame, "score", "seed", within=list(PAIR)).fit().anova_table
    mains, (together,) = main_effects(frame, "score"), interactions(frame, "score").to_dict("records")
    assert [list(mains), list(together)] == [list(COLUMNS)] * 2
    assert mains["p"].to_list() == pytest.approx(table.loc[list(PAIR), "Pr > F"].to_list())
    assert together["p"] == pytest.approx(table.loc["augmentation:codes", "Pr > F"])
    assert (together["factor"], together["level"], together["against"]) == (
        "augmentation x codes", "speaker_noise x 512", "none x 64",
    )  # fmt: skip


def test_what_two_factors_do_together_is_a_difference_of_differences():
    values = scores(np.random.default_rng(1), GRID, 5, own=0.1)
    by_factor = values.reshape(2, 2, 2, 5)  # (augmentation, codes, prob, seeds)
    by_factor[1, 1] += 2.0  # noise helps beside many codes only
    found = (
        interactions(runs(GRID, values), "score").set_index("factor").loc["augmentation x quantizer.codes"]
    )
    many, few = (by_factor[1, 1] - by_factor[0, 1]).mean(), (by_factor[1, 0] - by_factor[0, 0]).mean()
    assert (found["mean"], found["against_mean"]) == pytest.approx((many, few))
    assert found["difference"] == pytest.approx(many - few)
    assert (found["pairs"], found["seeds"], found["verdict"]) == (10, 5, "better")
    others = interactions(runs(GRID, values), "score").iloc[1:]
    assert (others["better"] == 0).all()


def test_levels_beyond_two_are_asked_one_by_one_against_the_baseline():
    grid = {"a": ("x", "none"), "b": (3, 1, 2)}
    frame = runs(grid, scores(np.random.default_rng(2), grid, 4))
    found = interactions(frame, "score", baseline={"b": 2})
    assert list(zip(found["level"], found["against"], strict=True)) == [
        ("x x 1", "none x 2"),
        ("x x 3", "none x 2"),
    ]
    mains = main_effects(frame, "score")
    assert list(zip(mains["level"], mains["against"], strict=True)) == [("x", "none"), (2, 1), (3, 1)]
    with pytest.raises(HarkError, match="c: is no factor"):
        interactions(frame, "score", baseline={"c": 2})


def test_main_effects_rest_on_seeds_that_have_every_cell():
    frame = runs(GRID, scores(np.random.default_rng(3), GRID, 5))
    frame.loc[3, "state"] = "failed"  # first cell, seed 3
    whole = effects(frame[frame["seed"] != 3], "score")
    found = main_effects(frame, "score")
    for column in ("pairs", "seeds", "difference", "p_holm"):
        assert found[column].to_list() == pytest.approx(whole[column].to_list())
    said = "1 failed (run-0-3); 7 of seed 3, which lacks 1 of 8 cells (run-1-3, run-2-3, run-3-3 and 4 more)"
    assert set(found["left_out"]) == {said}


def test_a_cell_without_runs_is_no_factorial_design_and_pairs_still_answer():
    frame = runs(GRID, scores(np.random.default_rng(4), GRID, 4))
    frame = frame[~frame["run"].str.startswith("run-0-")]
    assert set(main_effects(frame, "score")["verdict"]) == {"not enough seeds (3 needed)"}
    assert main_effects(frame, "score")["left_out"].str.contains("which lacks 1 of 8 cells").all()
    assert (effects(frame, "score")["pairs"] == 12).all()
    assert (interactions(frame, "score")["pairs"] == 4).all()


def test_what_lacks_most_goes_first():
    values = np.arange(12.0).reshape(3, 4)
    values[0, 1:] = np.nan
    values[1, 2] = np.nan
    kept = balanced(pd.DataFrame(values))
    assert (kept.index.to_list(), kept.columns.to_list()) == ([1, 2], [0, 1, 3])
