"""Runs as a data frame: what tells them apart, what they came to, and everything that is wrong with them."""

import math

import pandas as pd
import pytest

from research.analysis import cache as kept
from research.analysis import frame, mixed
from research.analysis.curves import curves, layers
from research.errors import HarkError
from research.launch.sweep.ledger import note
from tests.leftovers import STEPS, Folder, lines, logged, probed, sweep


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hark" / "runs"


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "runs")


def row(found, run):
    (line,) = found[found["run"] == run.name].to_dict("records")
    return line


def problems(folder, run):
    return row(frame.runs(folder.path), run)["problems"]


def test_a_row_says_what_a_run_is_and_came_to(folder):
    run = folder.run("run.seed=3", "run.name=mine", score=0.8, diff="a line", commit="ab" * 20)
    events = [{"schema": 1, "alarm": "rank", "event": event, "step": 4} for event in ("on", "off")]
    lines(run / "alarms.jsonl", events)
    found = row(frame.runs(folder.path), run)
    expected = {
        "name": "mine", "signature": run.name[-10:], "path": str(run), "seed": 3, "state": "done", "step": STEPS,
        "steps": STEPS, "commit": "ab" * 20, "dirty": True, "schema": 1, "problems": "", "alarms": "rank",
        "wall_s": 60, "device_h": 0.05, "audio_h": 2.0, "train/loss": 1.0, "valid/loss": 1.5,
        "probe/phones/pretrained": 0.8, "probe/phones/random_init": 0.5, "probe/phones/log_mel": 0.4,
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert found["probe/phones/gain"] == pytest.approx(0.3)
    assert math.isnan(found["energy_kwh"])


def test_overrides_that_differ_are_factors_with_the_values_of_the_config(folder):
    folder.run("quantizer.codes=64", "run.name=a", "train.log_every=7", "optimizer.lr=1e-2")
    folder.run("quantizer.codes=32", "run.seed=1", "health=off", "optimizer.lr=0.01")
    folder.run("run.seed=2", "encoder.checkpoint_layers=true", "optimizer.lr=0.010")
    found = frame.runs(folder.path)
    assert found.attrs["factors"] == ["quantizer.codes"]
    assert sorted(found["quantizer.codes"]) == [32, 64, 8192]  # as the plugin has it where nothing was typed
    volatile = {
        "train.log_every",
        "encoder.checkpoint_layers",
        "health",
        "optimizer.lr",
        "run.seed",
        "run.name",
    }
    assert not volatile & set(found)


def test_health_is_a_factor_only_where_it_acts(folder):
    folder.run("health=on")
    folder.run("health=rollback", "train.clip=0.5")
    assert "health" in frame.runs(folder.path)


def test_a_run_without_a_key_has_a_level_of_its_own(folder):
    folder.run("quantizer.codes=32")
    folder.run("objective=tera", "quantizer=none")
    found = frame.runs(folder.path)
    assert sorted(found["quantizer.codes"]) == ["", "32"]
    assert found.attrs["factors"] == ["objective"]  # decides all others
    assert found.attrs["follows"] == {"quantizer": "objective", "quantizer.codes": "objective"}


def test_what_another_factor_decides_has_no_effect_of_its_own(folder):
    for number, codes in enumerate((16, 32, 64)):
        folder.run(f"quantizer.codes={codes}", f"optimizer.lr={0.1 if number else 0.2}")
    found = frame.runs(folder.path)
    assert (found.attrs["factors"], found.attrs["follows"]) == (
        ["quantizer.codes"],
        {"optimizer.lr": "quantizer.codes"},
    )
    folder.run("quantizer.codes=16", "optimizer.lr=0.1")
    assert frame.runs(folder.path).attrs["factors"] == ["quantizer.codes", "optimizer.lr"]


def test_cells_that_were_typed_otherwise_and_never_run_have_no_say_in_it(folder):
    words = [("quantizer.codes=16", "train.clip=1"), ("quantizer.codes=32", "train.clip=2")]
    cells = {folder.run(*each).name: each for each in words}
    sweep(folder.path, cells | {"run-0123456789": ("quantizer.codes=16", "train.clip=3")})
    found = frame.runs("codes", folder.path)
    assert (found.attrs["factors"], found.attrs["follows"]) == (
        ["quantizer.codes"],
        {"train.clip": "quantizer.codes"},
    )


def test_gains_are_positive_where_less_is_better(folder):
    folder.run(score=0.2, random=0.5, falls=True)
    found = frame.runs(folder.path)
    assert found["probe/phones/gain"][0] == pytest.approx(0.3)
    assert found.attrs["falls"] == ["probe/phones"]


def test_the_newest_step_of_a_probe_counts_and_an_early_one_is_told(folder):
    run = folder.run(score=0.8)
    lines(
        run / "probes.jsonl",
        probed(0.7, 0.5, step=STEPS // 2) + probed(0.6, 0.5, step=STEPS // 2, probe="words"),
    )
    found = row(frame.runs(folder.path), run)
    assert (found["probe/phones/pretrained"], found["probe/words/pretrained"]) == (0.8, 0.6)
    assert found["problems"] == "words was probed at step 10 of 20"


def test_a_sweep_has_its_cells_and_those_without_a_run(folder):
    seeds = [folder.run("quantizer.codes=16", f"run.seed={seed}") for seed in range(2)]
    folder.run("quantizer.codes=99")
    cells = {run.name: ("quantizer.codes=16", f"run.seed={seed}") for seed, run in enumerate(seeds)}
    sweep(folder.path, cells | {"run-0123456789": ("quantizer.codes=32", "run.seed=1")})
    found = frame.runs("codes", folder.path)
    assert list(found["state"]) == ["done", "done", "missing"]
    assert list(found["quantizer.codes"]) == [16, 16, 32]
    assert list(found["problems"]) == ["", "", "no run is there"]
    assert found["seed"].tolist() == [0, 1, 1]
    assert math.isnan(found["train/loss"][2])
    assert frame.runs(folder.path / "sweeps" / "codes")["run"].tolist() == found["run"].tolist()
    (gap,) = [line for line in mixed.gaps(found).to_dict("records") if line["seed"] == 1]
    assert (gap["quantizer.codes"], gap["state"], gap["problems"]) == (32, "missing", "no run is there")


@pytest.mark.parametrize(
    ("events", "state", "told"),
    [
        ((), "unfinished", ""),
        (("failed",), "failed", "train failed (out of memory)"),
        (("alarmed",), "alarmed", ""),
        (("began",), "unfinished", ""),
    ],
)
def test_the_state_is_what_files_say(folder, events, state, told):
    run = folder.run(done=False)
    where = {"scheduler": "slurm", "sweep": "s", "code": "c", "batch": "b", "order": "o-0.json"}
    if events:
        note(run, "queued", job="", kind="train", **where)
        note(run, "submitted", job="1", kind="train", batch="b")
        note(run, "began", job="1", kind="train", step=0)
    for outcome in set(events) - {"began"}:
        note(run, "ended", job="1", kind="train", outcome=outcome, error="out of memory", step=0)
    found = row(frame.runs(folder.path), run)
    assert (found["state"], found["problems"], found["step"]) == (state, told, STEPS // 2)


def test_damage_is_told_and_left_out(folder):
    run = folder.run(score=0.8)
    text = (run / "metrics.jsonl").read_text().splitlines()
    lines(run / "metrics.jsonl", [{"step": 1}])
    text[1] = text[1][:20]
    (run / "metrics.jsonl").write_text(
        "\n".join(text) + '\n{"step": 25}\n{"schema": 2, "step": 30, "split": "train"}\n'
    )
    (run / "cost.json").write_text("{")
    (run / "code.json").unlink()
    found = row(frame.runs(folder.path), run)
    assert found["problems"].split("; ") == [
        "code.json is missing",
        "cost.json is damaged",
        "metrics.jsonl: damaged at line 2, 6",
        "metrics.jsonl: 1 lines of schema 2 are not read",
    ]
    assert (found["train/loss"], math.isnan(found["device_h"])) == (1.0, True)


def test_a_line_that_is_being_written_is_no_damage(folder):
    run = folder.run(done=False)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"schema": 1, "st')
    assert problems(folder, run) == ""
    done = folder.run("run.seed=1")
    with open(done / "metrics.jsonl", "a") as file:
        file.write('{"schema": 1, "st')
    assert problems(folder, done) == "metrics.jsonl: damaged at line 6"


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "run: {name: x}\n"])
def test_a_config_that_cannot_be_used_is_told(folder, text):
    run, other = folder.run(), folder.run("run.seed=1")
    (run / "config.yaml").write_text(text)
    found = frame.runs(folder.path)
    assert "config.yaml" in row(found, run)["problems"]
    assert row(found, other)["problems"] == ""


def test_a_folder_of_other_things_stops_no_other(folder):
    run, bare, other = (folder.run(f"run.seed={seed}") for seed in range(3))
    lines(run / "jobs.jsonl", [{"event": "queued", "kind": "train"}])
    (bare / "overrides.yaml").write_text("")
    found = frame.runs(folder.path)
    assert (row(found, run)["state"], row(found, run)["problems"]) == ("unreadable", "KeyError: 'scheduler'")
    assert [row(found, each)["state"] for each in (bare, other)] == ["done", "done"]


def test_numbers_that_are_not_finite_are_missing_and_told(folder):
    run = folder.run(score=math.inf)
    lines(run / "metrics.jsonl", [logged(10, math.inf, "health"), logged(STEPS, math.inf, "valid", acc=None)])
    found = row(frame.runs(folder.path), run)
    assert all(math.isnan(found[name]) for name in ("valid/loss", "valid/acc", "probe/phones/gain"))
    assert found["problems"].split("; ") == [
        "health/loss is not finite at 1 steps, first 10",
        "valid/loss is not finite at 1 steps, first 20",
        "valid/acc is not finite at 1 steps, first 20",
        "phones of pretrained is inf",
        "phones of gain is inf",
    ]


def test_metrics_that_end_early_are_told(folder):
    run = folder.run()
    kept = (run / "metrics.jsonl").read_text().splitlines(keepends=True)[:2]
    (run / "metrics.jsonl").write_text("".join(kept))
    assert problems(folder, run) == "metrics.jsonl ends at step 10 of 20"


def test_other_code_other_utterances_and_other_defaults_are_told(folder):
    for seed in range(3):
        folder.run(f"run.seed={seed}", score=0.8)
    run = folder.run("run.seed=3", commit="d" * 40, diff="x")
    lines(run / "probes.jsonl", probed(0.8, 0.5, manifest="b" * 64))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        text.replace("weight_decay: 0.001", "weight_decay: 0.1").replace("workers: 2", "workers: 9")
    )
    found = frame.runs(folder.path)
    assert row(found, run)["problems"].split("; ") == [
        "code dddddddddd+2d71, most have cccccccccc",
        "phones was asked about other utterances than most runs'",
        "optimizer.weight_decay=0.1, others of the same factors have 0.001",
    ]
    assert (found["problems"] == "").sum() == 3


def test_seeds_that_are_not_there_or_not_done_are_gaps(folder):
    for codes in (16, 32):
        for seed in range(3):
            if (codes, seed) != (32, 0):
                folder.run(f"quantizer.codes={codes}", f"run.seed={seed}", done=(codes, seed) != (16, 2))
    found = mixed.gaps(frame.runs(folder.path)).to_dict("records")
    assert [(line["quantizer.codes"], line["seed"], line["state"]) for line in found] == [
        (16, 2, "unfinished"),
        (32, 0, "none"),
    ]


def test_only_what_changed_is_read_again(folder, cache, monkeypatch):
    runs = [folder.run(f"run.seed={seed}") for seed in range(3)]
    first = frame.runs(folder.path)
    again = []
    read = kept.reader.digest
    monkeypatch.setattr(kept.reader, "digest", lambda run: again.append(run.name) or read(run))
    pd.testing.assert_frame_equal(frame.runs(folder.path), first)
    assert again == []
    (runs[1] / "done.json").unlink()
    lines(runs[2] / "metrics.jsonl", [logged(STEPS, 9.0)])
    found = frame.runs(folder.path)
    assert again == sorted(run.name for run in runs[1:])
    assert (row(found, runs[1])["state"], row(found, runs[2])["train/loss"]) == ("unfinished", 9.0)
    (file,) = cache.iterdir()
    file.write_bytes(b"nonsense")
    pd.testing.assert_frame_equal(frame.runs(folder.path), found)
    monkeypatch.setattr(kept, "code", lambda: "other")
    again.clear()
    frame.runs(folder.path)
    assert len(again) == 3


def test_no_cache_folder_is_no_failure(folder, tmp_path, monkeypatch, caplog):
    folder.run()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(frame.runs(folder.path)) == 1
    assert "cannot be written" in caplog.text


def test_one_run_is_a_frame_too(folder):
    run = folder.run()
    assert frame.runs(run)["run"].tolist() == [run.name]


def test_what_names_nothing_is_told(folder, tmp_path):
    run = folder.run()
    file = sweep(folder.path, {run.name: ("run.seed=0",)})
    with pytest.raises(HarkError, match="did you mean 'codes'"):
        frame.runs("code", folder.path)
    with pytest.raises(HarkError, match="no run is here"):
        frame.runs(folder.path / "sweeps")
    file.write_text("{}")
    with pytest.raises(HarkError, match=r"sweep.json: is damaged"):
        frame.runs("codes", folder.path)


def test_curves_are_long_with_the_audio_that_was_heard(folder):
    for codes in (16, 32):
        folder.run(f"quantizer.codes={codes}", score=0.8)
    found = frame.runs(folder.path)
    loss = curves(found, "loss")
    assert list(loss) == ["run", "seed", "quantizer.codes", "step", "audio_h", "value"]
    assert loss.attrs["factors"] == ["quantizer.codes"]
    one = loss[loss["quantizer.codes"] == 16]
    assert (one["step"].tolist(), one["audio_h"].tolist()) == ([5, 10, 15, 20], [0.5, 1.0, 1.5, 2.0])
    assert one["value"].tolist() == [16.0, 11.0, 6.0, 1.0]
    scores = curves(found, "phones", "probe")
    assert (scores["step"].tolist(), scores["value"].tolist()) == ([STEPS] * 2, [0.8] * 2)
    with pytest.raises(HarkError, match="did you mean 'loss'"):
        curves(found, "los", "valid")


def test_layers_are_those_of_the_newest_step(folder):
    run = folder.run(score=0.8)
    lines(run / "probes.jsonl", probed(0.7, 0.5, step=STEPS // 2))
    found = layers(frame.runs(folder.path), "phones")
    told = list(
        zip(found["representation"], found["layer"].fillna(-1), found["mean"], found["chosen"], strict=True)
    )
    assert told == [
        ("log_mel", -1, 0.3, False),
        ("log_mel", -1, 0.4, False),
        ("pretrained", 0, 0.99, False),
        ("pretrained", 1, 0.8, True),
        ("random_init", 0, 0.5, True),
    ]
    with pytest.raises(HarkError, match="did you mean 'phones'"):
        layers(frame.runs(folder.path), "phone")
