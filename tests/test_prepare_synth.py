"""Synthetic speech: the same on every run, with phones where they are heard."""

import itertools
import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError
from multiprocessing import get_context

import numpy as np
import pytest
import soundfile

from research.config import Data
from research.data import manifest
from research.data.corpora import synth
from research.errors import HarkError

pytest.importorskip("espeakng_loader", reason="the extra `synth` is not installed")
pytest.importorskip("faker", reason="the extra `synth` is not installed")

BREATHY = range(96, 144)  # the voices f2 to f5, whose breath is random


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return synth.prepare(tmp_path_factory.mktemp("synth") / "synth", 120)


@pytest.fixture(scope="module")
def rows(made):
    return [json.loads(line) for line in (made / "manifest.jsonl").read_text().splitlines()]


def test_every_language_and_its_voices(rows):
    assert len(rows) == 120
    assert {row["lang"] for row in rows} == {
        "en",
        "de",
        "fr",
        "es",
        "it",
        "ru",
        "cs",
        "nl",
        "pl",
        "el",
        "da",
        "uk",
    }
    assert {row["speaker"] for row in rows} == set(synth.VOICES[:10])
    assert all(0.5 < row["duration"] < 30 and row["text"] for row in rows)
    assert len({row["text"] for row in rows}) == 120


def test_files_are_standard_and_never_clip(made, rows):
    for row in rows[::10]:
        info = soundfile.info(made / row["audio_filepath"])
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        wave, _ = soundfile.read(made / row["audio_filepath"])
        assert len(wave) / 16_000 == row["duration"]
        assert 0.02 < np.abs(wave).max() < 1.0


def test_phones_follow_each_other_inside_the_utterance(rows):
    for row in rows:
        spans = [(start, end) for start, end, _ in row["phones"]]
        assert all(start < end for start, end in spans)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        assert spans[-1][1] <= row["duration"] + 1e-3
    names = {phone[2] for row in rows if row["lang"] == "en" for phone in row["phones"]}
    assert {"s", "t", "n", "pau"} <= names
    assert not any(name.startswith(("_", "'", ",")) for name in names)


def brightness(made, rows, names):
    """Mean share of energy above 3 kHz in the phones of these names."""
    shares = []
    for row in rows:
        wave, _ = soundfile.read(made / row["audio_filepath"])
        for start, end, name in row["phones"]:
            piece = wave[round(start * 16_000) : round(end * 16_000)]
            if name in names and len(piece) > 480:
                power = np.abs(np.fft.rfft(piece)) ** 2
                shares.append(power[round(len(power) * 3 / 8) :].sum() / power.sum())
    return np.mean(shares)


def test_phone_times_are_those_of_the_sound(made, rows):
    english = [row for row in rows if row["lang"] == "en"]
    sibilants, vowels = (
        brightness(made, english, {"s", "S"}),
        brightness(made, english, {"a", "E", "i:", "u:", "0"}),
    )
    assert sibilants > 0.4
    assert vowels < 0.1


def test_splits_for_the_probe_are_of_one_language(made):
    found = {path.stem: path.read_text().splitlines() for path in made.glob("*.jsonl")}
    ids = {name: {json.loads(line)["id"] for line in lines} for name, lines in found.items()}
    assert all("en-us" in name for name in ids["phones_train"] | ids["phones_test"])
    assert len(ids["phones_train"]) + len(ids["phones_test"]) == 10
    assert ids["train"] == ids["manifest"] - ids["valid"] - ids["phones_test"]
    assert not ids["valid"] & (ids["phones_train"] | ids["phones_test"])


def test_the_training_reader_takes_the_manifests(made):
    assert len(manifest.load([made / "train.jsonl", made / "valid.jsonl"], Data(train=[]))) >= 110


def test_the_same_audio_on_every_run(tmp_path):
    """Also of voices with random breath, and whatever the process said before."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        (folder / synth.SOURCE).mkdir(parents=True)
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as pool:  # seconds apart
        one, two = pool.map(synth.shard, folders, ["k", "k"], [BREATHY, BREATHY])
    assert one.rows == two.rows
    assert len({row["digest"] for row in one.rows}) == len(BREATHY)


def test_finished_shards_are_remembered(made, monkeypatch):
    (made / "summary.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in (made / synth.SOURCE).iterdir()}
    synth.prepare(made, 120)
    assert {path: path.stat().st_mtime_ns for path in (made / synth.SOURCE).iterdir()} == before


def test_a_deep_installation_works(tmp_path):
    """espeak-ng refuses data paths of 160 characters and more."""
    code = f"""
import espeakng_loader
from pathlib import Path
deep = Path({str(tmp_path)!r}, *["d" * 40] * 4)
deep.mkdir(parents=True)
(deep / "espeak-ng-data").symlink_to(espeakng_loader.get_data_path())
espeakng_loader.get_data_path = lambda: str(deep / "espeak-ng-data")
from research.data.corpora.espeak import Espeak
engine = Espeak()
engine.voice("en-us+m1", 175, 50, 50)
print(len(engine.say("hello", 0)[0]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(synth, "version", missing)
    with pytest.raises(HarkError, match=r"espeakng-loader is not installed: pip install 'hark-ssl\[synth\]'"):
        synth.prepare(tmp_path, 12)


def test_no_utterances_are_refused(tmp_path):
    with pytest.raises(HarkError, match="--utterances 0"):
        synth.prepare(tmp_path, 0)
