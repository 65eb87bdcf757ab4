"""Packed runs read as their folder does, byte for byte."""

import json

import pandas as pd
import pytest

from research.analysis import frame
from research.analysis.curves import curves, layers
from research.analysis.packed import pack, unpacked
from research.cli import main
from research.errors import HarkError
from tests.leftovers import Folder, sweep


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """A sweep with a damaged run and one that is missing."""
    made = Folder(tmp_path / "runs")
    runs = [made.run(f"quantizer.codes={codes}", score=0.7, diff="d" * 1000) for codes in (16, 32)]
    (runs[0] / "checkpoints").mkdir()
    (runs[0] / "health.pt").write_bytes(b"panel")
    with open(runs[1] / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": \xff\x00\n')
    cells = {run.name: (f"quantizer.codes={codes}",) for run, codes in zip(runs, (16, 32), strict=True)}
    sweep(made.path, cells | {"run-0123456789": ("quantizer.codes=64", "run.seed=4")})
    return made


@pytest.fixture
def file(folder, tmp_path):
    return pack("codes", tmp_path / "kept" / "codes.jsonl", folder.path)


def test_a_packed_sweep_is_read_as_its_folder(folder, file):
    here, there = frame.runs("codes", folder.path), frame.runs(file)
    assert here["state"].tolist() == ["done", "done", "missing"]
    pd.testing.assert_frame_equal(here.drop(columns="path"), there.drop(columns="path"))
    assert there.attrs == here.attrs | {"source": str(file)}
    pd.testing.assert_frame_equal(layers(here, "phones"), layers(there, "phones"))
    pd.testing.assert_frame_equal(curves(here, "loss"), curves(there, "loss"))


def test_files_come_back_as_they_were_and_large_ones_are_left_out(folder, file):
    back = unpacked(file)
    names = {path.relative_to(back) for path in back.rglob("*") if path.is_file()}
    for name in names:
        assert (back / name).read_bytes() == (folder.path / name).read_bytes()
    assert {name.name for name in names if name.parent.name.startswith("run-")} == {
        "config.yaml", "overrides.yaml", "code.json", "metrics.jsonl", "probes.jsonl", "cost.json", "done.json",
    }  # fmt: skip
    assert unpacked(file) == back
    assert [path.name for path in back.parent.iterdir()] == [back.name]


def test_what_runs_share_is_written_once(folder, file):
    text = file.read_text()
    assert text.count("d" * 1000) == 1
    assert next(json.loads(line).get("run", "") for line in text.splitlines()) == ""
    assert len(text.splitlines()) == 3


def test_a_folder_can_be_packed_and_packed_again(folder, file, tmp_path):
    whole = pack(folder.path, tmp_path / "all.jsonl")
    assert frame.runs(whole)["run"].tolist() == frame.runs(folder.path)["run"].tolist()
    assert pack(file, tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: [lines[0], lines[1][:-20]], ":2: is no line of a packed file"),
        (lambda lines: lines[1:], ":1: is no line of a packed file"),
        (
            lambda lines: [lines[0].replace('"schema": 1', '"schema": 2')],
            "has schema 2, and this code reads 1",
        ),
        (
            lambda lines: [lines[0], lines[1].replace('"done.json"', '"../done.json"')],
            "which is no file of a run",
        ),
        (lambda lines: [lines[0], lines[1].replace('"run": "', '"run": "/')], "which is no file of a run"),
        (lambda lines: [], "is empty"),
    ],
)
def test_a_damaged_file_is_an_error(file, change, told):
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(HarkError, match=told):
        frame.runs(file)


def test_a_cache_folder_that_cannot_be_written_is_an_error(file, tmp_path, monkeypatch):
    (tmp_path / "none").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    with pytest.raises(HarkError, match="set XDG_CACHE_HOME"):
        frame.runs(file)


def test_the_command_packs(folder, file, tmp_path, capsys):
    out = tmp_path / "typed.jsonl"
    assert main(["pack", "codes", "--folder", str(folder.path), "--out", str(out)]) == 0
    assert out.read_bytes() == file.read_bytes()
    assert "2 runs" in capsys.readouterr().out
    assert main(["pack", "codes", "--folder", str(folder.path), "--out", "typed"]) == 2
    assert "type typed.jsonl" in capsys.readouterr().err


def test_nothing_is_packed_of_no_run(folder, tmp_path):
    sweep(folder.path, {"run-0123456789": ("run.seed=4",)}, name="none")
    with pytest.raises(HarkError, match="no run is there yet"):
        pack("none", tmp_path / "none.jsonl", folder.path)
