"""Scanning manifests: in pieces, goes on where it stopped, kept for the next time, and shared by threads."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from research.config import Data
from research.data import manifest as manifests
from research.data import pieces, scan
from research.data.manifest import load
from research.errors import HarkError
from tests.tones import A, tones_in, write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hark" / "manifests"


@pytest.fixture
def folder(tmp_path):
    return tones_in(tmp_path)


def rewrite(path, *lines):
    """Write again, a second later: some kernels' clocks of files stand still for milliseconds."""
    later = path.stat().st_mtime + 1
    write(path, *lines)
    os.utime(path, (later, later))


def test_the_cache_answers_without_reading_anything(folder, cache, monkeypatch):
    path = write(folder / "m.jsonl", A, {"audio_filepath": "deep/b.flac", "duration": 3.0})
    first = load([path], Data())
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(scan, "scan", None)
    monkeypatch.setattr(scan.audio, "header", None)
    assert (load([path], Data()).rows == first.rows).all()


@pytest.mark.parametrize("harm", [b"", b"rubbish", None])
def test_a_broken_cache_is_made_again(folder, cache, harm):
    path = write(folder / "m.jsonl", A)
    first = load([path], Data())
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if harm is None else harm)
    assert (load([path], Data()).rows == first.rows).all()
    assert len(file.read_bytes()) == len(whole)


def test_a_changed_manifest_is_read_again(folder, cache):
    path = write(folder / "m.jsonl", A)
    assert load([path], Data()).durations.tolist() == [2.0]
    rewrite(path, A | {"duration": 1.5})
    assert load([path], Data()).durations.tolist() == [1.5]
    assert len(list(cache.iterdir())) == 1


def test_a_manifest_that_changes_while_in_use_is_refused(folder):
    path = write(folder / "m.jsonl", A)
    found = load([path], Data())
    rewrite(path, A | {"duration": 1.5})  # the same bytes but one
    with pytest.raises(HarkError, match=r"m.jsonl: changed while it was in use"):
        found.extra(0)
    again = load([path], Data())
    assert again.extra(0)["duration"] == 1.5
    rewrite(path, "x" * (path.stat().st_size - 1))
    with pytest.raises(HarkError, match=r"m.jsonl: changed while it was in use"):
        again.extra(0)


def test_works_without_a_cache_folder(folder, monkeypatch, caplog):
    (folder / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "file"))
    assert len(load([write(folder / "m.jsonl", A)], Data())) == 1
    assert "cannot be written" in caplog.text


def test_headers_can_wait(folder):
    path = write(folder / "m.jsonl", A, {"audio_filepath": "gone.wav", "duration": 2.0})
    assert len(load([path], Data(), headers=False)) == 2
    with pytest.raises(HarkError, match=r"gone.wav: is missing"):
        load([path], Data())


def test_headers_are_saved_block_by_block(folder, monkeypatch):
    monkeypatch.setattr(scan, "BLOCK", 4)
    lines = [A | {"id": str(i), "duration": 1 + i / 100} for i in range(21)]
    path = write(folder / "m.jsonl", *lines)
    saves = []
    monkeypatch.setattr(scan, "save", lambda *_: saves.append(1))
    found = load([path], Data())
    assert (found.rows["rate"] == 16_000).all()
    assert len(saves) == 1 + 6


@pytest.mark.parametrize("size", [1, 60, 100, 1000])
@pytest.mark.parametrize("end", ["", "\n", "\n\n  "])
def test_long_manifests_are_read_in_pieces(folder, monkeypatch, size, end):
    lines = [
        json.dumps(A | {"id": str(i), "text": "\u00e4" * (i % 7)}, ensure_ascii=False) for i in range(21)
    ]
    lines.insert(7, "")
    path = folder / "m.jsonl"
    path.write_text("\n".join(lines) + end)
    whole = load([path], Data()).rows
    monkeypatch.setattr(pieces, "SIZE", size)
    found = scan.scan(path)
    assert (
        found[["duration", "key", "start", "size", "line"]]
        == whole[["duration", "key", "start", "size", "line"]]
    ).all()
    assert found["line"].tolist() == [*range(1, 8), *range(9, 23)]
    with path.open("rb") as file:
        assert [scan.line_at(file.fileno(), row)["id"] for row in found] == [str(i) for i in range(21)]
    path.write_text("\n".join([*lines[:9], "{", *lines[9:], "}"]) + end)
    with pytest.raises(HarkError, match=r"m.jsonl:10: is not a JSON object \(and 1 more\)"):
        scan.scan(path)


def test_interrupted_header_reading_goes_on(folder, monkeypatch):
    monkeypatch.setattr(scan, "BLOCK", 4)
    path = write(folder / "m.jsonl", *[A | {"id": str(i)} for i in range(8)])
    looked = []

    def header(where):
        looked.append(where)
        if len(looked) == 6:
            raise KeyboardInterrupt
        return real(where)

    real = scan.audio.header
    monkeypatch.setattr(scan.audio, "header", header)
    monkeypatch.setattr(scan, "THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        load([path], Data())
    looked.clear()
    assert len(load([path], Data())) == 8
    assert len(looked) == 4


def test_threads_share_one_open_manifest(folder):
    found = load([write(folder / "m.jsonl", *[A | {"id": str(i)} for i in range(64)])], Data())
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(16) as pool:
        for _ in range(50):
            manifests.opened.cache_clear()  # so that several find it not yet open
            assert [entry["id"] for entry in pool.map(found.extra, range(64))] == [str(i) for i in range(64)]
    sys.setswitchinterval(usual)
