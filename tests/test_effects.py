"""Effects of factors: the arithmetic, how often they are wrong, and what is told of runs that do not count."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, ttest_1samp, ttest_rel
from statsmodels.stats.multitest import multipletests

from research.analysis.effects import COLUMNS, direction, effects
from research.analysis.factorial import interactions
from research.analysis.paired import bootstrapped, paired, students
from research.analysis.power import detectable
from research.analysis.verdict import words
from research.errors import HarkError
from tests.ablations import quick, runs, scores

ONE = {"quantizer.codes": (64, 512)}
TWO = {"augmentation": ("none", "speaker_noise"), "quantizer.codes": (64, 512, 4096)}


def test_one_factor_is_a_paired_t_test():
    values = scores(np.random.default_rng(0), ONE, 5)
    (found,) = effects(runs(ONE, values), "score").to_dict("records")
    tested = ttest_rel(values[1], values[0])
    assert list(found) == list(COLUMNS)
    assert (found["level"], found["against"], found["pairs"], found["seeds"]) == (512, 64, 5, 5)
    assert (found["mean"], found["against_mean"]) == pytest.approx((values[1].mean(), values[0].mean()))
    assert (found["p"], found["p_holm"]) == pytest.approx((tested.pvalue, tested.pvalue))
    assert (found["low"], found["high"]) == pytest.approx(tuple(tested.confidence_interval(0.95)))
    assert found["left_out"] == ""


def test_a_seed_counts_once_however_many_configurations_it_has():
    values = scores(np.random.default_rng(1), TWO, 6)
    found = effects(runs(TWO, values), "score").set_index("level")
    by_factor = values.reshape(2, 3, 6)  # (augmentation, codes, seeds)
    noise = (by_factor[1] - by_factor[0]).mean(0)
    codes = (by_factor[:, 1:] - by_factor[:, :1]).mean(0)
    assert (found["pairs"].to_list(), found["seeds"].to_list()) == ([18, 12, 12], [6, 6, 6])
    for level, differences in (("speaker_noise", noise), (512, codes[0]), (4096, codes[1])):
        assert found.loc[level, "p"] == pytest.approx(ttest_1samp(differences, 0).pvalue)
        g = differences.mean() / differences.std(ddof=1) * (1 - 3 / (4 * 5 - 1))  # Hedges 1981, approximated
        assert found.loc[level, "effect_size"] == pytest.approx(g, rel=0.01)
    assert found["p_holm"].to_list() == pytest.approx(multipletests(found["p"], method="holm")[1])
    asked = effects(
        runs(TWO, values), "score", factors=["quantizer.codes"], baseline={"quantizer.codes": 4096}
    )
    assert asked["level"].to_list() == [64, 512]
    assert asked.loc[0, "difference"] == pytest.approx(-codes[1].mean())


def test_where_no_factor_does_anything_as_many_are_shown_as_alpha_says():
    rng, count, grid = np.random.default_rng(2), 200, {"a": (0, 1), "b": (0, 1)}
    with quick():
        tables = [effects(runs(grid, scores(rng, grid, 5, reacts=1.0)), "score") for _ in range(count)]
    false = sum((table["p"] < 0.05).sum() for table in tables)
    assert within(false, 2 * count, 0.05)
    families = sum((table["better"] != 0).any() for table in tables)
    assert within(families, count, 0.05)


def test_a_planted_effect_is_recovered_with_the_stated_power():
    rng, count, seeds = np.random.default_rng(3), 100, 5
    planted = detectable(2**0.5, seeds)  # differences of two runs spread by sqrt(2)
    with quick():
        shown = [
            effects(runs(ONE, scores(rng, ONE, seeds) + np.array([[0.0], [planted]])), "score").loc[
                0, "verdict"
            ]
            for _ in range(count)
        ]
    assert within(shown.count("better"), count, 0.8)
    assert "worse" not in shown


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds):
    low, high, p = students(np.random.default_rng(4).normal(0.3, 1.0, (5000, seeds)))
    assert within(((low <= 0.3) & (high >= 0.3)).sum(), 5000, 0.95)
    np.testing.assert_array_equal(p < 0.05, (low > 0) | (high < 0))


def test_many_seeds_are_bootstrapped_and_hold_it_where_differences_are_skewed():
    rng, count = np.random.default_rng(5), 200
    held = {"normal": 0, "skewed": 0, "t": 0}
    for _ in range(count):
        for name, draw in (("normal", rng.normal(size=20)), ("skewed", rng.lognormal(size=20) - np.exp(0.5))):
            low, high, p = bootstrapped(draw)
            held[name] += low <= 0 <= high
            assert (p < 0.05) == (not low <= 0 <= high)
        low, high, _ = students(draw)
        held["t"] += low <= 0 <= high
    assert within(held["normal"], count, 0.945)
    assert held["skewed"] > max(held["t"], 0.9 * count)
    assert (paired(draw).low, paired(draw[:19]).low) == (bootstrapped(draw)[0], students(draw[:19])[0])


def test_seeds_that_say_nothing_or_all_the_same():
    still, moved = paired(np.zeros(5)), paired(np.full(5, 0.5))
    assert (still.p, still.low, still.high, still.size) == (1.0, 0.0, 0.0, 0.0)
    assert (moved.p, moved.low, moved.high, moved.size) == (0.0, 0.5, 0.5, np.inf)
    few = paired(np.array([0.1, 0.3]))
    assert (few.seeds, few.difference) == (2, pytest.approx(0.2))
    assert np.isnan([few.spread, few.low, few.high, few.p, few.size]).all()


@pytest.mark.parametrize("seeds", [5, 20])
@pytest.mark.parametrize("lost", [1, None])
def test_unknown_differences_say_nothing(seeds, lost):
    differences = np.linspace(0.1, 0.2, seeds)
    differences[:lost] = np.nan
    found = paired(differences)
    assert found.seeds == seeds
    assert np.isnan([found.difference, found.spread, found.low, found.high, found.p]).all()


def test_tied_differences_of_many_seeds():
    tied = np.array([0.1] * 19 + [0.2])  # every third draw has one value only
    assert bootstrapped(tied) == students(tied)
    assert paired(np.array([1.0, -1.0] * 10)).p == 1.0


@pytest.mark.parametrize(
    ("said", "gain", "p", "seeds", "needed"),
    [
        ("better", 0.1, 0.04, 5, 4.0),
        ("worse", -0.1, 0.04, 5, 4.0),
        ("not enough seeds (3 needed)", 0.1, float("nan"), 2, 3.0),
        ("not enough seeds (20 needed)", 0.1, 0.2, 5, 20.0),
        ("no difference shown", 0.1, 0.2, 5, 21.0),
        ("no difference shown", 0.0, 1.0, 5, float("nan")),
    ],
)
def test_verdicts(said, gain, p, seeds, needed):
    assert words(gain, p, seeds, needed) == said


def test_however_many_seeds_what_matters_needs_are_asked_for():
    assert words(0.1, 0.2, 5, 21.0, margin=True) == "not enough seeds (21 needed)"
    assert words(0.1, 0.2, 5, 5.0, margin=True) == "no difference shown"


def test_what_matters_decides_whether_seeds_were_enough():
    frame = runs(ONE, np.array([[0.50, 0.52, 0.51, 0.49], [0.51, 0.50, 0.52, 0.50]]))
    small, large = (effects(frame, "score", matters=size).loc[0] for size in (0.005, 0.1))
    assert small["verdict"].startswith("not enough seeds")
    assert small["needed"] > 4 > large["needed"]
    assert large["verdict"] == "no difference shown"
    with pytest.raises(HarkError, match="matters=0"):
        effects(frame, "score", matters=0.0)


def test_less_is_better_for_losses_errors_and_costs():
    lower = ("valid/loss", "train/cer", "valid/l1", "device_h", "wall_s", "probe/phone_abx/pretrained")
    higher = ("score", "valid/acc", "valid/contrast_acc", "probe/pnmi/random_init", "probe/phone_abx/gain")
    assert {direction(name) for name in lower} == {-1}
    assert {direction(name) for name in higher} == {1}
    assert direction("probe/odd/random_init", ["probe/odd"]) == -1
    frame = runs(ONE, np.array([[1.0, 1.1, 1.2], [0.5, 0.61, 0.7]])).rename(columns={"score": "valid/loss"})
    found = effects(frame, "valid/loss").loc[0]
    assert (found["better"], found["verdict"], found["difference"] < 0) == (1, "better", True)
    frame = frame.rename(columns={"valid/loss": "probe/odd/pretrained"})
    frame.attrs["falls"] = ["probe/odd"]
    table = effects(frame, "probe/odd/pretrained")
    assert (table.loc[0, "verdict"], table.attrs) == ("better", frame.attrs)


def test_what_is_not_averaged_is_told():
    frame = runs(ONE, scores(np.random.default_rng(6), ONE, 8))
    frame.loc[0, "state"] = "failed"
    frame.loc[9, "score"] = float("nan")
    frame.loc[10, "schema"] = 0
    frame.loc[5:6, "commit"] = "decade"
    frame.loc[5, "problems"] = "metrics.jsonl:7 is damaged"
    twin = frame.loc[[15]].assign(run="twin")
    frame = pd.concat([frame, twin], ignore_index=True).drop(index=11)
    (found,) = effects(frame, "score").to_dict("records")
    assert (found["pairs"], found["seeds"]) == (3, 3)  # seeds 4, 5, 6
    assert found["left_out"].split("; ") == [
        "1 failed (run-0-0)",
        "1 not of schema 1 (run-1-2)",
        "2 not the only one of its configuration and seed (run-1-7, twin)",
        "1 of seed 0, which lacks a pair (run-1-0)",
        "1 of seed 1, which lacks a pair (run-0-1)",
        "1 of seed 2, which lacks a pair (run-0-2)",
        "1 of seed 3, which lacks a pair (run-0-3)",
        "1 of seed 7, which lacks a pair (run-0-7)",
        "1 without a finite score (run-1-1)",
        "averaged over 2 versions of the code: c0ffee (4), decade (2)",
        "1 averaged with problems (run-0-5)",
    ]


def test_seeds_and_cells_are_dropped_until_all_cells_have_the_same_seeds():
    values = scores(np.random.default_rng(7), TWO, 5)
    frame = runs(TWO, values)
    lost = (frame["augmentation"] == "none") & (frame["quantizer.codes"] == 512) & (frame["seed"] > 0)
    (found,) = effects(frame[~lost], "score", factors=["augmentation"]).to_dict("records")
    kept = values.reshape(2, 3, 5)[:, [0, 2]]  # one cell of four holes goes, and all seeds stay
    assert (found["pairs"], found["seeds"]) == (10, 5)
    assert found["difference"] == pytest.approx((kept[1] - kept[0]).mean())
    assert found["left_out"] == "6 of a configuration that lacks pairs (run-1-0, run-4-0, run-4-1 and 3 more)"
    lost = (frame["augmentation"] == "none") & (frame["quantizer.codes"] == 512) & (frame["seed"] == 4)
    (found,) = effects(frame[~lost], "score", factors=["augmentation"]).to_dict("records")
    assert (found["pairs"], found["seeds"]) == (12, 4)  # one hole is a third of a seed, and a fifth of a cell


def test_few_or_no_pairs_are_not_enough_seeds():
    frame = runs(ONE, scores(np.random.default_rng(8), ONE, 3))
    two = effects(frame[frame["seed"] < 2], "score").loc[0]
    assert (two["verdict"], two["seeds"]) == ("not enough seeds (3 needed)", 2)
    assert np.isnan(two[["low", "high", "p", "p_holm", "detectable"]].astype(float)).all()
    none = effects(frame[(frame["seed"] == 0) == (frame["quantizer.codes"] == 64)], "score").loc[0]
    assert (none["verdict"], none["seeds"], none["better"]) == ("not enough seeds (3 needed)", 0, 0)
    unknown = effects(frame.assign(score=float("nan")), "score").loc[0]
    assert unknown["left_out"] == "6 without a finite score (run-0-0, run-0-1, run-0-2 and 3 more)"
    alone = frame[frame["quantizer.codes"] == 64]
    assert effects(alone, "score").empty
    assert list(effects(alone, "score")) == list(COLUMNS)


@pytest.mark.parametrize("seeds", [4, 24])
def test_levels_without_a_run_have_no_seeds(seeds):
    frame = runs(TWO, scores(np.random.default_rng(10), TWO, seeds))
    frame.loc[frame["quantizer.codes"] < 4096, "state"] = "missing"
    told = effects(frame, "score", ["quantizer.codes"]), interactions(frame, "score")
    for line in pd.concat(told).to_dict("records"):
        assert (line["pairs"], line["seeds"]) == (0, 0)
        assert line["verdict"] == "not enough seeds (3 needed)"


def test_wrong_names_are_told():
    frame = runs(TWO, scores(np.random.default_rng(9), TWO, 3))
    with pytest.raises(HarkError, match="scor: is no column of the runs; did you mean 'score'"):
        effects(frame, "scor")
    with pytest.raises(
        HarkError, match=r"quantizer.code: is no factor of the runs; did you mean 'quantizer.codes'"
    ):
        effects(frame, "score", factors=["quantizer.code"])
    with pytest.raises(
        HarkError, match=r"baseline quantizer.codes=128: no run has it; there are 64, 512, 4096"
    ):
        effects(frame, "score", baseline={"quantizer.codes": 128})
    frame.attrs = {}
    with pytest.raises(HarkError, match="does not say what its factors are"):
        effects(frame, "score")


def within(count, trials, share):
    """Whether a count is one of the usual 99% of a binomial one."""
    low, high = binom.interval(0.99, trials, share)
    return low <= count <= high
