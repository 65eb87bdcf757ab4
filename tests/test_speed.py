"""How fast runs learn: the first step at a value, what it cost, and what never got there."""

import json

import numpy as np
import pytest

from research.analysis.speed import summary, to_reach
from research.errors import HarkError
from tests.charted import ablation

CODES = "quantizer.codes"


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    return ablation(
        tmp_path_factory.mktemp("runs"), {CODES: [64, 256]}, effect=lambda cell: cell[CODES] / 2560
    )


def brute(run, metric, value, split, *, falls):
    """The first logged step at a value, and the one before."""
    with open(f"{run['path']}/metrics.jsonl") as file:
        logged = [line for line in map(json.loads, file) if line["split"] == split]
    before = 0
    for line in logged:
        if (line[metric] <= value) if falls else (line[metric] >= value):
            return line["step"], before
        before = line["step"]
    return np.nan, np.nan


@pytest.mark.parametrize(
    ("metric", "value", "split"), [("acc", 0.3, "valid"), ("loss", 3.75, "train"), ("acc", 0.42, "train")]
)
def test_the_first_step_at_a_value_is_found(frame, metric, value, split):
    table = to_reach(frame, metric, value, split)
    for (_, row), (_, run) in zip(table.iterrows(), frame.iterrows(), strict=True):
        step, before = brute(run, metric, value, split, falls=metric == "loss")
        assert (row["steps"], row["after"]) == pytest.approx((step, before), nan_ok=True)
        costs = (run["audio_h"] * step / 100, run["device_h"] * step / 100)
        assert (row["audio_h"], row["device_h"]) == pytest.approx(costs, nan_ok=True)


def test_costs_are_even_over_all_steps_of_a_run_not_up_to_its_last_validation(tmp_path):
    frame = ablation(tmp_path, {CODES: [64]}, seeds=1).assign(step=200)
    (row,) = to_reach(frame, "acc", 0.2).to_dict("records")
    assert row["steps"] == 50
    assert (row["audio_h"], row["device_h"]) == (frame.loc[0, "audio_h"] / 4, frame.loc[0, "device_h"] / 4)


def test_never_is_missing_and_makes_no_mean(frame):
    table = to_reach(frame, "acc", 0.45)
    assert table.loc[table[CODES] == 64, "steps"].isna().all()
    assert (table["last"] == 100).all()
    assert table["best"].tolist() == pytest.approx(frame["valid/acc"].tolist())
    few = summary(table).set_index("configuration")
    assert few["reached"].to_dict() == {"64": 0, "256": 3}
    assert np.isnan(few.loc["64", "steps"])
    both = to_reach(frame, "acc", float(frame.loc[frame[CODES] == 64, "valid/acc"].median()))
    part = summary(both).set_index("configuration").loc["64"]
    assert (part["reached"], np.isnan(part["steps"])) == (2, True)


def test_means_are_over_seeds(frame):
    table = to_reach(frame, "acc", 0.3)
    rows = summary(table).set_index("configuration")
    for codes, part in table.groupby(CODES):
        assert rows.loc[str(codes), "steps"] == pytest.approx(part["steps"].mean())
        assert rows.loc[str(codes), "device_h"] == pytest.approx(part["device_h"].mean())


def test_a_run_that_logged_nothing_is_in_the_table(tmp_path):
    frame = ablation(tmp_path, {CODES: [64]}, seeds=2)
    (tmp_path / "run-001" / "metrics.jsonl").unlink()
    frame.loc[1, "state"] = "failed"
    table = to_reach(frame, "acc", 0.1)
    assert table["state"].tolist() == ["done", "failed"]
    assert table["steps"].isna().tolist() == [False, True]


def test_a_value_that_is_not_a_number_is_not_reached(tmp_path):
    frame = ablation(tmp_path, {CODES: [64]}, seeds=1)
    file = tmp_path / "run-000" / "metrics.jsonl"
    file.write_text(file.read_text().replace('"acc": 0.4', '"acc": NaN, "x": 0.4'))
    assert to_reach(frame, "acc", 0.2)["steps"].tolist() == [50.0]


def test_an_unknown_metric_is_told(frame):
    with pytest.raises(HarkError, match="valid/ac: no run has logged it"):
        to_reach(frame, "ac", 0.3)
