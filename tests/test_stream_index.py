"""Indices of streams: made once for a file, by all cores, and read from anywhere."""

import gzip
import json

import numpy as np
import pytest

from research.data.cached import stamp
from research.data.streams import gather, index, lines, unzip
from research.errors import HarkError
from tests.sources import (
    assert_heard,
    clips,
    entry,
    hear,
    manifests,
    one,
    packed,
    refused,
    sharded,
    tar,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hark" / "streams"


def test_an_index_is_made_once_and_again_when_a_file_changes(tmp_path, monkeypatch, cache):
    folder = sharded(tmp_path / "set")
    first = clips(one(folder))
    assert len(list(cache.iterdir())) == 4
    made = []
    monkeypatch.setattr(gather, "make", lambda *job: made.append(job[0].path.name) or index.make(*job))
    assert clips(one(folder)) == first
    assert made == []
    tar(folder / "audio_1.tar", [(f"u{k}.flac", packed((k + 5) / 10, k)) for k in (7, 6, 5, 4)])
    again = clips(one(folder))
    assert made == ["audio_1.tar"]
    for clip in again:
        assert_heard(hear(clip)[1], clip.duration, json.loads(clip.line)["shard_id"] * 4 + clip.row)
    (file,) = [file for file in cache.iterdir() if file.name.endswith("nemo_tarred")]
    file.write_bytes(file.read_bytes()[:-5])
    assert clips(one(folder)) == again
    assert made[1:] == ["tarred_audio_manifest.json"]


def test_a_file_that_changes_while_in_use_is_refused(tmp_path):
    folder = sharded(tmp_path / "set", shards=1)
    stream = one(folder)
    tar(folder / "audio_0.tar", [])
    with pytest.raises(HarkError, match=r"audio_0.tar: changed while it was in use; start again"):
        clips(stream)


def test_works_without_a_cache_folder(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(one(manifests(tmp_path, a=2)["a"])) == 2
    assert "cannot be written" in caplog.text


def test_large_files_are_read_by_all_cores_to_the_same_end(tmp_path, monkeypatch):
    entries = [entry(f"é{k}.wav", 1 + k / 100, _skipme=k % 7 == 0) for k in range(200)]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in entries))
    whole = clips(one(path))
    assert len(whole) == 171
    monkeypatch.setattr(lines, "BLOCK", 7)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    assert clips(one(path)) == whole
    monkeypatch.setattr(gather, "SIZE", 1000)
    monkeypatch.setattr("research.data.pieces.SIZE", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
    assert clips(one(path)) == whole
    path.write_text(path.read_text() + "{\n")
    refused(path, "m.jsonl:201: is not a JSON object")


def test_zipped_lines_are_read_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(unzip, "CHUNK", 100)
    monkeypatch.setattr(unzip, "APART", 2000)
    rng = np.random.default_rng(0)
    data = "".join(json.dumps(entry(f"{rng.integers(1 << 60)}.wav")) + "\n" for _ in range(400)).encode()
    (tmp_path / "m.jsonl").write_bytes(data)
    whole = (
        gzip.compress(data[:9000]) + gzip.compress(data[9000:]) + bytes(50)
    )  # two files in one, and padding
    (tmp_path / "m.jsonl.gz").write_bytes(whole)
    found, stream = [clip.line for clip in clips(one(tmp_path / "m.jsonl"))], one(tmp_path / "m.jsonl.gz")
    marks = unzip.marks_of(tmp_path / "m.jsonl.gz", *stamp(tmp_path / "m.jsonl.gz"))
    assert len(marks) > 5
    for start in rng.integers(0, 390, 50):
        assert [clip.line for clip in stream.shards[0].clips(start, start + 10)] == found[start : start + 10]
    with unzip.unzipped(tmp_path / "m.jsonl.gz") as file:
        assert [file.seek(17_000), file.read(30), file.seek(100), file.read(30)] == [
            17_000,
            data[17_000:17_030],
            100,
            data[100:130],
        ]
        file.seek(0)
        assert file.read() == data
