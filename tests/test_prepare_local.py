"""Folders of audio and lhotse's recipes; the command line that leads to all corpora."""

import argparse
import functools
import http.server
import json
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from research.config import Data
from research.data import manifest
from research.data.corpora import command, directory, recipes
from research.errors import HarkError


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def tone(path, seconds, rate=16_000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(np.arange(round(seconds * rate)) / 5)
    soundfile.write(path, np.stack([samples] * channels, 1), rate)


# ---- dir ----


@pytest.fixture
def folder(tmp_path):
    tone(tmp_path / "audio" / "b.wav", 1.5)
    tone(tmp_path / "audio" / "deep" / "a.wav", 2.0, 44_100, channels=2)
    tone(tmp_path / "audio" / "c.flac", 1.0)
    (tmp_path / "audio" / "notes.txt").write_text("no audio")
    return tmp_path / "audio"


def test_a_folder_is_indexed_where_it_lies(folder, tmp_path):
    out = directory.prepare(folder, "*.wav", tmp_path / "out")
    rows = rows_of(out / "manifest.jsonl")
    assert [(row["id"], row["duration"], row["sr0"]) for row in rows] == [
        ("b.wav", 1.5, 16_000),
        ("deep/a.wav", 2.0, 44_100),
    ]
    assert [row["audio_filepath"] for row in rows] == [str(folder / "b.wav"), str(folder / "deep" / "a.wav")]
    assert len(manifest.load([out / "manifest.jsonl"], Data(train=[]))) == 2
    assert json.loads((out / "summary.json").read_text())["utterances"] == 2
    assert str(folder) in (out / "LICENSES.md").read_text()


def test_what_is_no_audio_is_left_out_and_named(folder, tmp_path):
    out = directory.prepare(folder, "*", tmp_path / "out")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["utterances"] == 3
    assert summary["dropped"]["unreadable"] == 1
    assert "notes.txt" in summary["notes"][0]


def test_a_folder_is_looked_at_again_each_time(folder, tmp_path):
    directory.prepare(folder, "*.flac", tmp_path / "out")
    tone(folder / "d.flac", 1.0)
    assert len(rows_of(directory.prepare(folder, "*.flac", tmp_path / "out") / "manifest.jsonl")) == 2


def test_folders_without_audio_are_refused(folder, tmp_path):
    with pytest.raises(HarkError, match=r"no file matches --glob '\*.mp3' \(there are: \.wav 2"):
        directory.prepare(folder, "*.mp3", tmp_path / "out")
    with pytest.raises(HarkError, match=r"notes.txt: .* none of 1 files is audio"):
        directory.prepare(folder, "*.txt", tmp_path / "out")
    with pytest.raises(HarkError, match="no such folder"):
        directory.prepare(folder / "nothing", "*.wav", tmp_path / "out")


# ---- lhotse ----


@pytest.fixture(scope="module")
def yesno(tmp_path_factory):
    """A corpus in the layout of lhotse's recipe `yesno`: 60 files, named by what is said."""
    folder = tmp_path_factory.mktemp("yesno") / "waves_yesno"
    for i in range(60):
        tone(folder / ("_".join(f"{i:08b}") + ".wav"), 0.5 + i / 100, 8000)
    return folder


def test_a_recipe_gives_one_manifest_per_split(yesno, tmp_path):
    out = recipes.prepare("yesno", {}, yesno, tmp_path / "out")
    rows = {path.stem: rows_of(path) for path in out.glob("*.jsonl")}
    assert {name: len(part) for name, part in rows.items()} == {"manifest": 60, "train": 30, "test": 30}
    first = rows["train"][0]
    assert first["id"] == "train-0_0_0_0_0_0_0_0"
    assert (first["text"], first["lang"], first["sr0"]) == ("NO NO NO NO NO NO NO NO", "Hebrew", 8000)
    assert first["audio_filepath"] == str(yesno / "0_0_0_0_0_0_0_0.wav")
    read = manifest.load([out / "train.jsonl", out / "test.jsonl"], Data(train=[]))
    assert read.durations.sum() == pytest.approx(sum(0.5 + i / 100 for i in range(60)), abs=0.01)
    assert "Kaldi" in (out / "LICENSES.md").read_text()


@pytest.fixture
def server(yesno):
    """Serve the corpus as the archive that the recipe expects."""
    with tarfile.open(yesno.parent / "waves_yesno.tar.gz", "w:gz") as archive:
        archive.add(yesno, "waves_yesno")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=yesno.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_recipe_downloads_where_it_can(server, tmp_path):
    out = recipes.prepare("yesno", {"url": f"{server}/waves_yesno.tar.gz"}, None, tmp_path / "out")
    rows = rows_of(out / "manifest.jsonl")
    assert len(rows) == 60
    assert all(row["audio_filepath"].startswith(str(out / "download")) for row in rows)


def test_what_goes_wrong_in_a_recipe_is_one_line(yesno, tmp_path):
    cases = [
        (
            ("yesno", {"url": "http://127.0.0.1:9/x.tar.gz"}, None),
            r"yesno: the download failed .*--corpus DIR.*refused",
        ),
        (("librilight", {}, None), r"librilight: lhotse cannot download it.*--corpus DIR"),
        (("yesno", {}, tmp_path), r"cannot be prepared: AssertionError: assert len\(wave_files\) == 60"),
        (("yesn", {}, None), r"no recipe 'yesn'; did you mean 'yesno'\?"),
        (("yesno", {"uri": "x"}, None), r"uri=x: recipe yesno has no option 'uri'; did you mean 'url'\?"),
        (("yesno", {"url": "x"}, yesno), r"no option 'url'"),
    ]
    for arguments, told in cases:
        with pytest.raises(HarkError, match=told) as caught:
            recipes.prepare(*arguments, tmp_path / "out")
        assert "\n" not in str(caught.value)


def test_options_reach_the_recipe_and_unsupervised_audio_counts_whole(tmp_path, monkeypatch):
    corpus = tmp_path / "musan"
    for part in ("noise", "music"):
        tone(corpus / part / "free" / f"{part}-0.wav", 1.0)
    (corpus / "music" / "free" / "ANNOTATIONS").write_text("music-0 jazz Y somebody\n")
    monkeypatch.chdir(tmp_path)
    out = recipes.prepare("musan", {"parts": '["noise", "music"]'}, Path("musan"), tmp_path / "out")
    rows = rows_of(out / "manifest.jsonl")
    assert [(row["id"], row["kind"], row["speaker"]) for row in rows] == [
        ("music-music-0", "music", "somebody"),
        ("noise-noise-0", "noise", ""),
    ]
    assert rows[0]["audio_filepath"] == str(corpus / "music" / "free" / "music-0.wav")


def test_segments_of_long_recordings_have_an_offset(tmp_path):
    from lhotse import CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet

    from research.data.corpora.spans import leaves, rows_of

    tone(tmp_path / "long.wav", 10.0)
    recording = Recording.from_file(tmp_path / "long.wav")
    parts = [SupervisionSegment(f"s{i}", "long", 3.0 * i, 3.5, text=f"t{i}", speaker="x") for i in (3, 0, 1)]
    tables = RecordingSet.from_recordings([recording]), SupervisionSet.from_segments(parts)
    ((split, found),) = leaves(
        {"en": {"train": dict(zip(("recordings", "supervisions"), tables, strict=True))}}
    )
    rows = rows_of("recipe", split, found)
    assert [(row["id"], row.get("offset"), row["duration"]) for row in rows] == [
        ("en-train-s0", None, 3.5),
        ("en-train-s1", 3.0, 3.5),
        ("en-train-s3", 9.0, 1.0),
    ], "the last is told to end after its file"
    cuts = CutSet.from_manifests(*tables).truncate(offset_type="start", max_duration=4.0)
    (row,) = rows_of("recipe", "", [cuts])
    assert (row["duration"], row["text"], row["speaker"]) == (4.0, "t0 t1", "x")
    assert list(leaves(tables)) == [("", list(tables))]


def test_audio_that_is_no_file_is_refused(tmp_path):
    from lhotse import AudioSource, Recording, RecordingSet

    from research.data.corpora.spans import rows_of

    source = AudioSource("command", [0], "sox x -")
    piped = RecordingSet.from_recordings([Recording("r", [source], 16_000, 16_000, 1.0)])
    with pytest.raises(HarkError, match="recording r: its audio comes from 'command'"):
        rows_of("recipe", "", [piped])


# ---- the command ----


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(words))


def test_the_command_prepares_and_says_what_it_made(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("dir", str(folder), "--glob", "*")
    told = capsys.readouterr().out
    assert "data/audio: 3 utterances, 0.1 min" in told
    assert "left out: 1 unreadable" in told
    assert "data/audio/LICENSES.md" in told
    assert (tmp_path / "data" / "audio" / "manifest.jsonl").exists()


def test_the_command_reaches_every_corpus(yesno, tmp_path, capsys):
    run("lhotse", "yesno", "--corpus", str(yesno), "--out", str(tmp_path / "out"))
    assert "train.jsonl: 30 utterances" in capsys.readouterr().out
    with pytest.raises(HarkError, match="parts: an option of a recipe reads key=value"):
        run("lhotse", "yesno", "parts")
    with pytest.raises(HarkError, match="--preset ful: unknown"):
        run("debspeech", "--preset", "ful")
    with pytest.raises(HarkError, match="no lincity-ng-data_"):
        run("noise", "--deb-dir", str(tmp_path), "--out", str(tmp_path / "noise"))
    with pytest.raises(HarkError, match="--utterances -1"):
        run("synth", "--utterances", "-1")


def test_the_command_is_light_to_import():
    code = "import sys, research.data.corpora.command; print([m for m in sys.modules if m in ('numpy', 'torch', 'rich')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
