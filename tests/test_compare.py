"""The table of configurations: what is averaged over which runs, what is told of the others, and the verdict."""

import json

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from research import registry, runs
from research.analysis.compare import cells, compare
from research.analysis.frame import runs as read
from research.analysis.power import needed
from research.cli import main
from research.compose import compose_config
from research.errors import HarkError

registry.load_plugins()


def leave(folder, codes, seed, *, score=None, random=0.5, done=True, name="run"):
    """A run folder as training and probing leave it."""
    words = [f"quantizer.codes={codes}", f"run.seed={seed}", f"run.folder={folder}", f"run.name={name}"]
    composed = compose_config([*words, "data.train=[x.jsonl]"])
    run = runs.create(composed.config, composed.choices, composed.overrides)
    valid = {"schema": 1, "step": 5, "split": "valid", "time": 0.0, "acc": 0.1 * seed, "unigram_acc": 0.01}
    (run / "metrics.jsonl").write_text(json.dumps(valid) + "\n")
    (run / "cost.json").write_text('{"wall_s": 60, "device_h": 0.05, "audio_h": 2.0}')
    if done:
        runs.finish(run, 5)
    if score is not None:
        line = {"kind": "score", "probe": "phone_frames", "headline": True, "step": 5, "period": 0.04}
        sides = [
            {"representation": "pretrained", "layer": 1, "chosen": True, "mean": score},
            {"representation": "random_init", "layer": 2, "chosen": True, "mean": random},
            {"representation": "log_mel", "layer": None, "chosen": False, "mean": 0.4},
        ]
        (run / "probes.jsonl").write_text("".join(json.dumps(line | side) + "\n" for side in sides))
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four configurations: one that gains, one that seems to, one that does not, one with two seeds and unprobed runs."""
    at = tmp_path_factory.mktemp("runs")
    for seed, (gains, seems, not_) in enumerate(
        zip((0.60, 0.62, 0.64), (0.53, 0.56, 0.60), (0.48, 0.5, 0.52), strict=True)
    ):
        leave(at, 64, seed, score=gains)
        leave(at, 32, seed, score=seems)
        leave(at, 16, seed, score=not_)
        leave(at, 8, seed, score=0.9 if seed else None, done=seed < 2)
    return at


def test_gains_are_averaged_over_the_seeds_of_a_configuration(folder):
    table = compare(read(folder)).set_index("name", drop=False)
    assert table.index.to_list() == ["run: 8", "run: 64", "run: 32", "run: 16"]
    first = table.loc["run: 64"]
    tested = ttest_1samp([0.10, 0.12, 0.14], 0)
    assert needed(0.19 / 3, 0.0351, 0.05 / 3) == 7
    assert first["gain"] == pytest.approx(0.12)
    assert (first["low"], first["high"]) == pytest.approx(tuple(tested.confidence_interval(0.95)))
    assert first["p_holm"] == pytest.approx(3 * tested.pvalue)
    assert first[["own", "trivial", "pretrained", "random_init", "baseline"]].to_list() == pytest.approx(
        [0.1, 0.01, 0.62, 0.5, 0.4]
    )
    assert first[["audio_h", "device_h"]].to_list() == pytest.approx([2.0, 0.05])
    assert cells(first)[-2:] == ["2.0", "3.0"]
    assert (first["seeds"], first["metric"], first["left_out"]) == (3, "acc", "")
    assert table["verdict"].to_dict() == {
        "run: 8": "not enough seeds (3 needed)",
        "run: 64": "better",
        "run: 32": "not enough seeds (7 needed)",
        "run: 16": "no difference shown",
    }


def test_what_is_not_averaged_is_told(folder):
    frame = read(folder)
    line = compare(frame).set_index("name").loc["run: 8"]
    assert (line["seeds"], line["probed"], line["pretrained"]) == (2, 1, pytest.approx(0.9))
    lost, unasked = (
        frame.loc[(frame["quantizer.codes"] == 8) & (frame["seed"] == seed), "run"].item() for seed in (2, 0)
    )
    assert sorted(line["left_out"].split("; ")) == [f"1 not probed ({unasked})", f"1 unfinished ({lost})"]


def test_a_mean_over_seeds_is_over_all_of_them(folder):
    frame = read(folder)
    diverged = (frame["quantizer.codes"] == 64) & (frame["seed"] == 0)
    line = (
        compare(frame.assign(**{"valid/acc": frame["valid/acc"].mask(diverged)}))
        .set_index("name")
        .loc["run: 64"]
    )
    assert (line["metric"], line["trivial"]) == ("acc", pytest.approx(0.01))
    assert pd.isna(line["own"])


def test_less_than_a_random_encoder_is_worse(folder):
    frame = read(folder)
    gain = "probe/phone_frames/gain"
    assert compare(frame.assign(**{gain: -frame[gain]}))["verdict"].to_list().count("worse") == 1


def test_the_command_prints_what_was_not_probed_last(tmp_path, capsys):
    leave(tmp_path, 32, 0, name="one")
    leave(tmp_path, 64, 0, score=0.7, name="other")
    leave(tmp_path, 64, 1, score=0.7, name="other", done=False)
    assert main(["compare", str(tmp_path), "--markdown"]) == 0
    said = capsys.readouterr().out.splitlines()
    told = [line for line in said if line.startswith(("| one ", "| other "))]
    assert ["not enough seeds (3 needed)" in told[0], "not probed" in told[1]] == [True, True]
    (left,) = (line for line in said if line.startswith("other: without"))
    assert left.startswith("other: without 1 unfinished (other-")
    assert not any(line.startswith("one: ") for line in said)


def test_a_sweep_is_its_cells_only(tmp_path):
    mine, _ = leave(tmp_path, 32, 0), leave(tmp_path, 64, 0)
    listed = tmp_path / "sweeps" / "codes" / "sweep.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps({"cells": {mine.name: {"overrides": []}}}))
    (line,) = (line for _, line in compare(read("codes", tmp_path)).iterrows())
    assert cells(line)[:3] == ["run", "1", "0.000 acc"]
    assert cells(line)[4:9] == ["", "", "", "not probed", ""]
    with pytest.raises(HarkError, match="did you mean 'codes'"):
        read("code", tmp_path)


def test_a_probe_that_was_not_run_is_told(folder):
    with pytest.raises(HarkError, match="no run was asked this; did you mean 'phone_frames'"):
        compare(read(folder), "phone_frame")
