"""The report of a sweep: whole, self-contained, with the frame's numbers, and frank about what is wrong."""

import json
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from research import registry, runs
from research.analysis import frame as frames
from research.analysis.effects import effects
from research.analysis.packed import pack
from research.analysis.report import report
from research.analysis.report_case import case
from research.analysis.report_faults import faults
from research.analysis.report_scores import scores
from research.cli import main
from research.compose import compose_config
from research.launch.sweep import ledger

registry.load_plugins()

METRIC = "probe/phone_frames/pretrained"
SECTIONS = (
    "In short", "Question", "What is wrong", "Effects", "Scores", "Factors together", "Curves", "Layers", "Cost", "Health", "Runs",
    "Reproduce", "What the numbers rest on",
)  # fmt: skip
COMMIT = "c0ffee" * 6 + "c0ff"
SHARED = ["encoder=fastconformer_tiny", "data.train=[x.jsonl]", "train.steps=20", "log.wandb=disabled"]


def leave(root, codes, prob, seed, score):
    """A run folder as training and probing leave it."""
    words = [
        *SHARED,
        f"run.folder={root}",
        f"quantizer.codes={codes}",
        f"masking.prob={prob}",
        f"run.seed={seed}",
    ]
    composed = compose_config(words)
    run = runs.create(composed.config, composed.choices, words)
    (run / "code.json").write_text(json.dumps({"commit": COMMIT, "diff": ""}))
    logged = [
        {
            "schema": 1,
            "step": step,
            "split": split,
            "time": 0.0,
            "loss": 5 - step / 10 + seed / 100,
            "acc": 0.1,
        }
        for step in (10, 20)
        for split in ("train", "valid")
    ]
    dump(run / "metrics.jsonl", logged)
    dump(run / "probes.jsonl", probed(run.name, score))
    (run / "cost.json").write_text('{"wall_s": 1800, "device_h": 0.5, "audio_h": 2.25}')
    queued = {"job": "", "kind": "train", "batch": "b", "order": "b-0.json", "scheduler": "local"}
    ledger.note(run, "queued", **queued, sweep="codes", code="code")
    ledger.note(run, "began", job="1", kind="train", step=0, host="h", pid=1, logs=[])
    ledger.note(run, "ended", job="1", kind="train", outcome="done", step=20, error="", again=False)
    runs.finish(run, 20)
    return run


def probed(name, score):
    common = {
        "schema": 1, "checkpoint": name, "step": 20, "kind": "score", "probe": "phone_frames", "metric": "accuracy",
        "headline": True, "manifests": {"phones_train.jsonl": "ab" * 32, "phones_test.jsonl": "cd" * 32}, "n_seeds": 3,
        "n_train": {"utterances": 100}, "n_dev": {"utterances": 30},
        "n_test": {"utterances": 71, "frames": 900, "heard_in_pretraining": 0}, "test_reads": 1,
    }  # fmt: skip
    found = [
        ("pretrained", 0, score - 0.1),
        ("pretrained", 1, score),
        ("random_init", 0, 0.5),
        ("random_init", 1, 0.4),
    ]
    lines = [
        {"representation": side, "layer": layer, "period": 0.04, "mean": mean, "chosen": mean in (score, 0.5)}
        for side, layer, mean in found
    ]
    lines.append({"representation": "log_mel", "layer": None, "period": 0.04, "mean": 0.55, "chosen": False})
    return [common | line | {"low": line["mean"] - 0.01, "high": line["mean"] + 0.01} for line in lines]


def dump(file, lines):
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def sweep(root, name, cells):
    """The sweep.json of cells: run name -> its factors."""
    folder = root / "sweeps" / name
    folder.mkdir(parents=True)
    typed = [{"words": ["--name", name, "nest_codes", "data.train=[x.jsonl]", *SHARED], "time": 1.7e9}]
    listed = {
        run: {
            "differs": differs,
            "overrides": [*SHARED, *(f"{key}={value}" for key, value in differs.items())],
        }
        for run, differs in cells.items()
    }
    (folder / "sweep.json").write_text(json.dumps({"name": name, "typed": typed, "cells": listed}))


def grid(root):
    """Two by two levels and five seeds: more codes are better by 0.05, masking does nothing."""
    random = np.random.default_rng(0)
    cells, found = {}, {}
    for seed in range(5):
        base = 0.6 + random.normal(0, 0.02)
        for codes in (32, 64):
            for prob in (0.03, 0.06):
                score = base + 0.05 * (codes == 64) + random.normal(0, 0.004)
                run = leave(root, codes, prob, seed, score)
                cells[run.name] = {
                    "quantizer.codes": str(codes),
                    "masking.prob": str(prob),
                    "run.seed": str(seed),
                }
                found[codes, prob, seed] = run.name
    sweep(root, "codes", cells)
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of runs, and their names by codes, masking.prob and seed."""
    root = tmp_path_factory.mktemp("good")
    return root, grid(root)


@pytest.fixture(scope="module")
def good(made):
    return made[0]


@pytest.fixture(scope="module")
def page(good, tmp_path_factory):
    """The text of report.html, its elements, and the folder that it is in."""
    file = report(case("codes", good), tmp_path_factory.mktemp("out"))
    return file.read_text(), ET.fromstring(file.read_text()), file.parent


def test_all_sections_are_there_in_well_formed_html(page):
    _, tree, _ = page
    assert [title.text for title in tree.iter("h2")] == list(SECTIONS)
    anchors = {f"#{section.get('id')}" for section in tree.iter("section")}
    assert {link.get("href") for link in tree.iter("a")} == anchors
    assert len(anchors) == len(SECTIONS)


def test_the_page_needs_nothing_from_outside(page):
    text, tree, _ = page
    assert not list(tree.iter("script"))
    loaded = [
        each.get(key) for each in tree.iter() if each.tag != "a" for key in ("src", "href") if each.get(key)
    ]
    assert len(loaded) > 5
    assert all(word.startswith("data:") for word in loaded)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text


def test_markdown_says_the_same(page):
    _, tree, folder = page
    told = (folder / "report.md").read_text()
    assert re.findall(r"^## (.*)$", told, re.MULTILINE) == list(SECTIONS)
    for cell in tree.iter("td"):
        assert (cell.text or "").replace("|", "\\|") in told
    pictures = re.findall(r"\]\((.*)\)", told)
    assert len(pictures) == len(list(tree.iter("img")))
    assert all((folder / name).is_file() for name in pictures)


def table(tree, heading):
    """Rows of the first table that has this heading, as dictionaries."""
    for each in tree.iter("table"):
        headings = [cell.text for cell in each.iter("th")]
        if heading in headings:
            rows = [[cell.text or "" for cell in row] for row in each.find("tbody")]
            return [dict(zip(headings, row, strict=True)) for row in rows]
    raise AssertionError(heading)


def test_numbers_are_those_of_the_frame(good, page):
    _, tree, _ = page
    frame = frames.runs("codes", good)
    rows = {row["run"]: row for row in table(tree, "run")}
    assert set(rows) == set(frame["run"])
    for _, line in frame.iterrows():
        row = rows[line["run"]]
        assert row["pretrained"] == f"{line[METRIC]:.4f}"
        assert (row["seed"], row["state"], row["step"]) == (str(line["seed"]), "done", "20/20")
    for row in table(tree, "gain"):
        mine = frame[
            (frame["quantizer.codes"] == int(row["quantizer.codes"]))
            & (frame["masking.prob"] == float(row["masking.prob"]))
        ]
        assert row["pretrained"].startswith(f"{mine[METRIC].mean():.3f} [")
        assert row["log_mel"] == "0.550 [0.550, 0.550]"
    total = table(tree, "device-hours")[-1]
    assert (total["runs"], total["device-hours"], total["audio-hours"]) == ("20", "10.00", "45.00")
    assert total["energy (kWh)"] == "unknown"


def test_verdicts_are_those_of_the_effects(good, page):
    _, tree, _ = page
    found = effects(frames.runs("codes", good), METRIC).set_index("factor")
    rows = {row["factor"]: row for row in table(tree, "verdict")}
    for factor, line in found.iterrows():
        assert rows[factor]["verdict"] == line["verdict"]
        told = f"{line['difference']:+.3f} [{line['low']:.3f}, {line['high']:.3f}]"
        assert rows[factor]["difference [95%]"] == told
    assert rows["quantizer.codes"]["verdict"] == "better"
    assert rows["masking.prob"]["verdict"] != "better"


def test_commands_question_and_reads_are_told(page):
    text, tree, _ = page
    assert "Does it matter how many codes" in text
    assert "hark sweep --name codes nest_codes &#39;data.train=[x.jsonl]&#39;" in text
    assert f"git checkout {COMMIT}" in text
    (row,) = table(tree, "test set asked")
    assert (row["runs"], row["probe seeds"], row["test utterances"], row["test set asked"]) == (
        "20",
        "3",
        "71",
        "20",
    )


def test_a_sound_sweep_has_nothing_wrong(good):
    assert faults(case("codes", good).frame, METRIC) == []


@pytest.fixture(scope="module")
def bad(made, tmp_path_factory):
    """Its report after a failure, a stop, a loss, NaN, another commit, another schema and an alarm; and these runs."""
    root, found = tmp_path_factory.mktemp("bad") / "runs", made[1]
    shutil.copytree(made[0], root)
    ill = [root / found[64, 0.06, seed] for seed in range(5)] + [
        root / found[32, 0.06, seed] for seed in range(2)
    ]
    failed, stopped, lost, nan, other, schema, alarmed = ill
    for run, outcome, error in ((failed, "failed", "CUDA out of memory"), (stopped, "stopped", "")):
        (run / "done.json").unlink()
        ledger.note(run, "ended", job="1", kind="train", outcome=outcome, step=10, error=error, again=False)
    shutil.rmtree(lost)
    dump(nan / "probes.jsonl", probed(nan.name, float("nan")))
    (other / "code.json").write_text(json.dumps({"commit": "badbad" * 6, "diff": "+changed"}))
    dump(schema / "metrics.jsonl", [{"schema": 2, "step": 20, "split": "train", "time": 0.0, "loss": 1.0}])
    event = {
        "schema": 1,
        "time": 0.0,
        "step": 10,
        "alarm": "rank",
        "event": "on",
        "says": "layer 2 has rank 1.2",
    }
    dump(alarmed / "alarms.jsonl", [event])
    file = report(case("codes", root), tmp_path_factory.mktemp("out"))
    return ET.fromstring(file.read_text()), root, [run.name for run in ill]


def test_what_is_wrong_is_named_before_the_numbers(bad):
    tree, _, (failed, stopped, lost, nan, other, schema, alarmed) = bad
    (alert,) = [text.text for text in tree.iter("p") if text.get("class") == "alert"]
    assert alert.startswith(
        "Not all is well: failed run, stopped run, missing run, not averaged, missing seeds"
    )
    told = {
        (row["what"], name): row["why"] for row in table(tree, "why") for name in row["which"].split(", ")
    }
    assert "CUDA out of memory" in told["failed run", failed]
    assert "not averaged" in told["stopped run", stopped]
    assert ("missing run", lost) in told
    assert "without a finite" in told["not averaged", nan]
    assert ("not averaged", schema) in told
    assert ("NaN or infinite", nan) in told
    assert "badbad" in told["mixed code", other]
    assert "schema" in told["mixed schema", schema]
    lacking = told["missing seeds", "quantizer.codes=64 masking.prob=0.06"]
    assert lacking.startswith("no usable run of seed 0, 1, 2, 3;")
    (alarm,) = table(tree, "alarm")
    assert (alarm["alarm"], alarm["which"], alarm["said first"]) == (
        "rank",
        alarmed,
        "step 10: layer 2 has rank 1.2",
    )
    states = {row["run"]: row for row in table(tree, "run")}
    assert [states[run]["state"] for run in (failed, stopped, lost)] == ["failed", "stopped", "missing"]
    assert states[nan]["pretrained"] == "NaN"


def test_what_is_wrong_is_never_averaged(bad):
    tree, root, (*_, other, _, _) = bad
    frame = frames.runs("codes", root).set_index("run")
    rows = {(row["quantizer.codes"], row["masking.prob"]): row for row in table(tree, "gain")}
    assert rows["64", "0.06"]["seeds"] == "1 of 5"
    assert rows["64", "0.06"]["pretrained"] == f"{frame.loc[other, METRIC]:.3f}"
    verdicts = {row["factor"]: row["verdict"] for row in table(tree, "verdict")}
    assert verdicts["masking.prob"].startswith("not enough seeds")
    left = " ".join(row["left out"] for row in table(tree, "left out"))
    assert "without a finite" in left


def test_tables_average_the_same_runs(good):
    whole = case("codes", good)
    codes, masking = (whole.frame[factor] for factor in ("quantizer.codes", "masking.prob"))
    twins = whole.frame[(codes == 64) & (masking == 0.06) & (whole.frame["seed"] < 2)].assign(run="twin")
    frame = pd.concat([whole.frame, twins], ignore_index=True)
    frame.loc[frame["quantizer.codes"] == 32, "schema"] = 0
    both = replace(whole, frame=frame)
    rows = {tuple(row[:3]) for row in scores(both).blocks[0].rows}
    assert rows == {
        ("64", "0.06", "3 of 7"),
        ("64", "0.03", "5 of 5"),
        ("32", "0.06", "0 of 5"),
        ("32", "0.03", "0 of 5"),
    }
    told = {fault.why: fault.count for fault in faults(frame, METRIC) if fault.what == "not averaged"}
    assert told == {
        "not the only one of its configuration and seed, though done": 4,
        "not of schema 1, though done": 10,
    }
    lacking = [fault.count for fault in faults(frame, METRIC) if fault.what == "missing seeds"]
    assert sorted(lacking) == [2, 5, 5]


def test_a_packed_sweep_gives_the_same_report(good, page, tmp_path):
    pack("codes", tmp_path / "codes.jsonl", good)
    file = report(case(str(tmp_path / "codes.jsonl"), tmp_path))
    assert file == tmp_path / "codes" / "report.html"
    packed = ET.fromstring(file.read_text())
    assert [table(packed, name) for name in ("run", "gain", "verdict")] == [
        table(page[1], name) for name in ("run", "gain", "verdict")
    ]


def test_the_command_writes_and_names_the_page(good, tmp_path, capsys):
    words = [
        "report",
        "codes",
        "--folder",
        str(good),
        "--out",
        str(tmp_path),
        "--baseline",
        "quantizer.codes=64",
    ]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    tree = ET.fromstring((tmp_path / "report.html").read_text())
    rows = {row["factor"]: row for row in table(tree, "verdict")}
    assert (rows["quantizer.codes"]["against"], rows["quantizer.codes"]["verdict"]) == ("64", "worse")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["code"], "did you mean 'codes'"),
        (["codes", "--metric", "valid/los"], "did you mean 'valid/loss'"),
        (["codes", "--baseline", "quantizer.code=64"], "did you mean 'quantizer.codes'"),
        (["codes", "--baseline", "quantizer.codes"], "write KEY=LEVEL"),
        (["codes", "--baseline", "quantizer.codes=65"], "no run has it"),
    ],
)
def test_mistakes_are_one_line(good, words, told, tmp_path, capsys):
    assert main(["report", *words, "--folder", str(good), "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
