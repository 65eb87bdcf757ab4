"""Sharded sets come out the same however often their making was stopped."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from research.data.corpora import codec
from research.data.corpora.shards import Settings
from research.errors import HarkError
from tests.corpora import LAYOUTS, noise, odd_corpus, sharded, sums
from tests.sounds import RATE

pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return odd_corpus(tmp_path_factory.mktemp("corpus"))


def killed_at(moment, *args):
    """Prepare in a process that kills itself at a certain renaming of a file."""
    count, real = 0, Path.replace

    def replace(self, target):
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, target)

    Path.replace = replace
    sharded(*args)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_anywhere_it_goes_on_to_the_same_bytes(layout, corpus, tmp_path):
    path, _ = corpus
    settings = Settings(shards=3)
    wanted = sums(sharded(layout, [path], tmp_path / "calm", settings))
    fork = multiprocessing.get_context("fork")
    for moment in range(1, 13):
        out = tmp_path / f"{moment}"
        process = fork.Process(target=killed_at, args=(moment, layout, [path], out, settings))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (out / "summary.json").exists()
        assert sums(sharded(layout, [path], out, settings)) == wanted


def test_workers_end_with_their_parent_and_are_no_matter(tmp_path):
    lines = []
    for i in range(16):
        soundfile.write(tmp_path / f"{i}.wav", noise(2.0), RATE)
        lines.append({"audio_filepath": f"{i}.wav", "duration": 2.0})
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, settings = tmp_path / "out", Settings(shards=8, codec="opus")
    words = f"prepare tar {path} --out {out} --shards 8 --codec opus --workers 2".split()
    script = "import sys; from research.cli import main; sys.exit(main())"
    process = psutil.Popen([sys.executable, "-c", script, *words])
    while not list((out / ".parts").glob("0*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    children = process.children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert not (out / "summary.json").exists()
    resumed = sums(sharded("tar", [path], out, settings))
    assert resumed == sums(sharded("tar", [path], tmp_path / "calm", settings))


def test_a_finished_shard_is_not_made_again_and_a_lost_one_is(corpus, tmp_path):
    path, _ = corpus
    settings = Settings(shards=3)
    out = sharded("tar", [path], tmp_path, settings)
    wanted, before = sums(out), (out / "audio_1.tar").stat().st_mtime_ns
    (out / "audio_2.tar").unlink()
    assert sums(sharded("tar", [path], tmp_path, settings)) == wanted
    assert (out / "audio_1.tar").stat().st_mtime_ns == before


def test_another_set_is_not_mixed_in(corpus, tmp_path):
    path, _ = corpus
    mine = tmp_path / "m.jsonl"
    mine.write_text(
        (path.parent / "all.jsonl").read_text().replace('filepath": "', f'filepath": "{path.parent}/')
    )
    sharded("tar", [mine], tmp_path / "out", Settings())
    mine.write_text(mine.read_text().replace("teßt", "text").replace("te\\u00dft", "text"))
    with pytest.raises(HarkError, match=r"not the same manifests, codec.; choose another --out"):
        sharded("tar", [mine], tmp_path / "out", Settings(codec="wav"))
    with pytest.raises(HarkError, match="not the same layout"):
        sharded("shar", [mine], tmp_path / "out", Settings())
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "summary.json").write_text("{}")
    with pytest.raises(HarkError, match="holds another corpus; choose another --out"):
        sharded("tar", [mine], tmp_path / "corpus", Settings())


def test_a_full_disk_is_one_line_and_nothing_is_half_done(corpus, tmp_path):
    path, _ = corpus
    settings = Settings(shards=3, seed=-1)

    def on_full_disk(pipe):
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            sharded("tar", [path], tmp_path / "out", settings)
        except HarkError as error:
            pipe.send(str(error))

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=on_full_disk, args=(theirs,))
    process.start()
    process.join()
    assert ours.poll()
    assert "File too large; the same command goes on from here" in ours.recv()
    wanted = sums(sharded("tar", [path], tmp_path / "calm", settings))
    there = sums(tmp_path / "out")
    assert "audio_0.tar" in there
    assert "audio_2.tar" not in there
    assert there.items() <= wanted.items()
    assert sums(sharded("tar", [path], tmp_path / "out", settings)) == wanted


def test_what_reads_back_differently_is_no_shard(corpus, tmp_path, monkeypatch):
    path, _ = corpus
    real = codec.encode
    monkeypatch.setattr(codec, "encode", lambda x, rate, name: real(np.roll(x, 1, 0), rate, name))
    with pytest.raises(HarkError, match=r"shard 0 reads back as other samples of .* is the disk sound"):
        sharded("tar", [path], tmp_path, Settings())
    monkeypatch.setattr(codec, "encode", lambda x, rate, name: real(x[1:], rate, name))
    with pytest.raises(HarkError, match=r"shard 0 reads back as \d+ samples of .* instead of"):
        sharded("shar", [path], tmp_path / "shar", Settings())
    assert not list(tmp_path.glob("audio_*.tar"))
    assert not (tmp_path / "summary.json").exists()
