"""The table of configurations: what is averaged over which runs, and what is left out."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from research import registry, runs
from research.analysis.compare import Mean, compare, found_in, scores
from research.cli import main
from research.compose import compose_config
from research.errors import HarkError

registry.load_plugins()


def leave(folder, codes, seed, *, score=None, random=0.5, done=True):
    """A run folder as training and probing leave it."""
    words = [f"quantizer.codes={codes}", f"run.seed={seed}", f"run.folder={folder}", "data.train=[x.jsonl]"]
    composed = compose_config(words)
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
            {"representation": "pretrained", "layer": 2, "chosen": False, "mean": 0.99},
            {"representation": "random_init", "layer": 2, "chosen": True, "mean": random},
            {"representation": "log_mel", "layer": None, "chosen": False, "mean": 0.4},
            {"representation": "pretrained", "layer": 1, "chosen": True, "mean": 0.98, "step": 4},
        ]
        (run / "probes.jsonl").write_text("".join(json.dumps(line | side) + "\n" for side in sides))
    return run


def test_gains_are_averaged_over_the_seeds_of_a_configuration(tmp_path):
    for seed, score in enumerate((0.60, 0.62, 0.64)):
        leave(tmp_path, 64, seed, score=score)
        leave(tmp_path, 32, seed, score=0.5 - 0.02 * (seed - 1))
    first, second = (line for _, line in compare(scores(tmp_path, "phone_frames")).iterrows())
    assert (first["seeds"], second["seeds"]) == (3, 3)
    assert first["gain"].value == pytest.approx(0.12)
    assert first["own"].value == pytest.approx(0.1)
    assert first["baseline"].value == pytest.approx(0.4)
    assert first["minutes"].value == pytest.approx(3.0)
    assert first["gain"].verdict == "better"
    assert second["gain"].verdict == "no difference shown"


def test_intervals_are_students(tmp_path):
    values = pd.Series(np.random.default_rng(0).normal(0.1, 0.02, 5))
    low, high = ttest_1samp(values, 0).confidence_interval(0.95)
    found = Mean.of(values)
    assert (found.value - found.reach, found.value + found.reach) == pytest.approx((low, high))
    assert Mean.of(-values).verdict == "worse"
    assert Mean.of(values[:1]).verdict == "one seed"


def test_unfinished_runs_are_told_and_not_averaged(tmp_path):
    for seed in range(2):
        leave(tmp_path, 64, seed, score=0.6)
    leave(tmp_path, 64, 2, score=0.1, done=False)
    (line,) = (line for _, line in compare(scores(tmp_path, "phone_frames")).iterrows())
    assert (line["seeds"], line["unfinished"], line["score"].value) == (2, 1, pytest.approx(0.6))


def test_the_command_prints_what_was_not_probed_last(tmp_path, capsys):
    leave(tmp_path, 32, 0)
    leave(tmp_path, 64, 0, score=0.7)
    assert main(["compare", str(tmp_path), "--markdown"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| run ")]
    assert ["one seed" in told[1], "not probed" in told[2]] == [True, True]


def test_a_sweep_is_its_cells_only(tmp_path):
    mine, _ = leave(tmp_path, 32, 0), leave(tmp_path, 64, 0)
    listed = tmp_path / "sweeps" / "codes" / "sweep.json"
    listed.parent.mkdir(parents=True)
    listed.write_text(json.dumps({"cells": {mine.name: {}}}))
    folder, names = found_in("codes", tmp_path)
    assert list(scores(folder, "phone_frames", names)["run"]) == [mine.name]
    with pytest.raises(HarkError, match="did you mean 'codes'"):
        found_in("code", tmp_path)
    with pytest.raises(HarkError, match="no run is here"):
        scores(tmp_path / "sweeps", "phone_frames")
