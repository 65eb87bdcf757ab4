"""Real speech for the tests: prepared once, as a user would, and kept in data/."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from research.data.corpora import debspeech, synth
from research.errors import HarkError
from tests.clips import cuts_in
from tests.slurm.fixture import HOME, private
from tests.slurm.packages import install
from tests.sounds import mixed_noise, mixed_speech

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def corpus():
    """A prepared corpus with train, valid, phones_train and phones_test manifests."""
    folder = ROOT / "data"
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "w") as file:
        fcntl.lockf(
            file, fcntl.LOCK_EX
        )  # the tests run in several processes: one prepares, the others find it
        try:
            return debspeech.prepare(folder / "debspeech-mini", "mini", None)
        except HarkError as error:
            print(f"no Debian packages here ({error}): synthetic speech instead")
            return synth.prepare(folder / "synth", utterances=1200)


@pytest.fixture(scope="session")
def speech(corpus, tmp_path_factory):
    """Sixty short utterances to train on and ten to validate on: {"train": path, "valid": path}."""
    folder = tmp_path_factory.mktemp("speech")
    paths = {}
    for split, count in (("train", 60), ("valid", 10)):
        lines = [json.loads(line) for line in (corpus / f"{split}.jsonl").read_text().splitlines()]
        short = [line for line in lines if 0.5 < line["duration"] < 3.0][:count]
        for line in short:
            line["audio_filepath"] = str(corpus / line["audio_filepath"])
        paths[split] = folder / f"{split}.jsonl"
        paths[split].write_text("".join(json.dumps(line) + "\n" for line in short))
    return paths


@pytest.fixture(scope="session")
def slurm():
    """A running SLURM of this test process's own, which every command finds; skips where there can be none."""
    reason = install(HOME)
    if reason:
        pytest.skip(f"no SLURM: {reason}")
    with private() as cluster, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SLURM_")]:
            patch.delenv(name)  # of a job that runs the tests
        for name, value in cluster.environment().items():
            patch.setenv(name, value)
        yield cluster


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache folder of this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def module_cache(tmp_path_factory):
    """A cache folder of this module alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def queue(slurm, tmp_path):
    """Sends jobs to SLURM; what they have left is ended with the test."""
    from tests.slurm.queue import Queue

    yield Queue(tmp_path)
    slurm.up()
    slurm.clear()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return mixed_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    return mixed_noise(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Cuts of lhotse by name, and the folder of their audio."""
    folder = tmp_path_factory.mktemp("cuts")
    return cuts_in(folder), folder
