import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from research.config import Data
from research.data import manifest as manifests
from research.data import pieces, scan
from research.data.manifest import load, load_noise
from research.data.plan import Plan, by_budget
from research.data.summary import summarize
from research.errors import HarkError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hark" / "manifests"


def tone(path: Path, seconds: float, rate: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.05)
    soundfile.write(path, np.stack([wave] * channels, 1), rate)
    return path


def write(path: Path, *lines: dict | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.fixture
def folder(tmp_path):
    tone(tmp_path / "a.wav", 2.0)
    tone(tmp_path / "deep" / "b.flac", 3.0, 22_050, 2)
    return tmp_path


A = {"audio_filepath": "a.wav", "duration": 2.0}


def test_reads_paths_ids_and_everything_else(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    path = write(
        folder / "m.jsonl",
        A | {"text": "naïve", "phones": [["a", 0, 1]], "id": "first"},
        "",
        {"audio_filename": "~/deep/b.flac", "duration": 1, "offset": 1.5},
        {"audio_filepath": str(folder / "deep" / "b.flac"), "duration": 3.0, "offset": None},
        {"_skipme": True, "audio_filepath": "nowhere.wav"},
    )
    found = load([path], Data())
    b = str(folder / "deep" / "b.flac")
    assert [found.utterance(i) for i in range(3)] == [
        ("first", str(folder / "a.wav"), 0.0, 2.0),
        (f"{b}@1.5", b, 1.5, 1.0),
        (b, b, 0.0, 3.0),
    ]
    assert found.extra(0)["text"] == "naïve"
    assert found.extra(0)["phones"] == [["a", 0, 1]]
    assert found.where(1) == f"{path}:3"
    assert found.left_out == {"_skipme": 1}
    assert found.rows["rate"].tolist() == [16_000, 22_050, 22_050]
    assert found.rows["channels"].tolist() == [1, 2, 2]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"audio_filepath": "a.wav", ', "m.jsonl:2: is not a JSON object"),
        ('["a.wav"]', "m.jsonl:2: is not a JSON object"),
        (b"\xff\xfe{}".decode("latin-1"), "m.jsonl:2: is not a JSON object"),
        ({"duration": 2.0}, "m.jsonl:2: has no audio_filepath"),
        ({"audio_filepath": 3, "duration": 2.0}, "m.jsonl:2: has no audio_filepath"),
        ({"audio_filepath": "x.wav"}, "m.jsonl:2: has no duration"),
        (A | {"duration": 0}, "m.jsonl:2: duration is 0 s, it must be above 0"),
        (A | {"duration": -1.0}, "m.jsonl:2: duration is -1 s, it must be above 0"),
        (A | {"duration": float("nan")}, "m.jsonl:2: duration is nan, it must be a number of seconds"),
        (A | {"duration": "2.0"}, "m.jsonl:2: duration is '2.0', it must be a number of seconds"),
        (A | {"duration": True}, "m.jsonl:2: duration is True, it must be a number of seconds"),
        (A | {"offset": -0.5}, "m.jsonl:2: offset is -0.5 s, it must not be below 0"),
        ({"audio_filepath": "gone.wav", "duration": 2.0}, "m.jsonl:2: .*gone.wav: is missing"),
        (A | {"offset": 5.0}, "m.jsonl:2: the segment ends at 7.00 s, .*a.wav at 2.00 s"),
        (A | {"duration": 2.2}, "m.jsonl:2: the segment ends at 2.20 s, .*a.wav at 2.00 s"),
        (A, "m.jsonl:2: id '.*a.wav' is taken by .*m.jsonl:1"),
    ],
)
def test_wrong_lines_are_told_with_their_place(folder, line, told):
    path = write(folder / "m.jsonl", A, line)
    for _ in range(2):  # a cache must not swallow it
        with pytest.raises(HarkError, match=told) as error:
            load([path], Data())
        assert "\n" not in str(error.value)


def test_wrong_lines_are_counted(folder):
    broken = write(folder / "m.jsonl", A, "{", A, "}", "[]")
    with pytest.raises(HarkError, match=r"m.jsonl:2: .* \(and 2 more\)"):
        load([broken], Data())
    gone = [{"audio_filepath": f"gone{i}.wav", "duration": 1.0} for i in range(3)]
    with pytest.raises(HarkError, match=r"m.jsonl:1: .*gone0.wav: is missing \(and 2 more\)"):
        load([write(folder / "m.jsonl", *gone)], Data())


def test_files_that_are_no_manifests(folder):
    with pytest.raises(HarkError, match=r"empty.jsonl: this manifest is empty"):
        load([write(folder / "empty.jsonl", "", "  ")], Data())
    with pytest.raises(HarkError, match=r"nothing.jsonl: this manifest cannot be read \(No such file"):
        load([folder / "nothing.jsonl"], Data())
    with pytest.raises(HarkError, match=r"cannot be read \(Is a directory"):
        load([folder], Data())
    with pytest.raises(HarkError, match="no manifest is named"):
        load([], Data())


def test_a_mended_file_is_looked_at_again(folder):
    path = write(folder / "m.jsonl", A | {"duration": 4.04})
    with pytest.raises(HarkError, match="ends at"):
        load([path], Data())
    tone(folder / "a.wav", 4.0)  # durations may be rounded
    assert len(load([path], Data())) == 1


def test_an_undecodable_file_is_left_to_the_loader(folder):
    (folder / "noise.wav").write_bytes(b"RIFF nothing of use")
    path = write(folder / "m.jsonl", A, {"audio_filepath": "noise.wav", "duration": 1.0})
    assert load([path], Data()).rows["rate"].tolist() == [16_000, 0]


def test_several_manifests_are_one(folder):
    first = write(folder / "m.jsonl", A | {"text": "first"})
    second = write(
        folder / "deep" / "m.jsonl", {"audio_filepath": "b.flac", "duration": 3.0, "text": "second"}
    )
    found = load([first, str(second)], Data())
    assert [found.extra(i)["text"] for i in range(2)] == ["first", "second"]
    assert found.utterance(1).path == str(folder / "deep" / "b.flac")
    with pytest.raises(HarkError, match=r"deep/m.jsonl:1: id 'same' is taken by .*m.jsonl:1"):
        load(
            [write(first, A | {"id": "same"}), write(second, A | {"audio_filepath": "b.flac", "id": "same"})],
            Data(),
        )


def test_segments_of_one_file_have_their_own_ids(folder):
    path = write(folder / "m.jsonl", *[A | {"duration": 0.5, "offset": 0.5 * i} for i in range(4)])
    found = load([path], Data())
    assert len({found.utterance(i).id for i in range(4)}) == 4


def test_durations_outside_the_limits_are_counted(folder):
    lines = [A | {"id": str(d), "duration": d} for d in (0.05, 0.5, 1.0, 1.5, 2.0)]
    found = load([write(folder / "m.jsonl", *lines)], Data(min_seconds=0.5, max_seconds=1.5))
    assert found.durations.tolist() == [0.5, 1.0, 1.5]
    assert found.left_out == {"under 0.5 s": 1, "over 1.5 s": 1}
    with pytest.raises(HarkError, match=r"every utterance is left out \(5 under 3 s\)"):
        load([folder / "m.jsonl"], Data(min_seconds=3.0))
    assert len(load_noise([folder / "m.jsonl"], Data(min_seconds=3.0))) == 5


def test_strict_refuses_other_rates_and_channels(folder):
    tone(folder / "c.wav", 1.0, 8_000)
    tone(folder / "d.wav", 1.0, 16_000, 2)
    for name, found in (("c.wav", "1 channels and 8000 Hz"), ("d.wav", "2 channels and 16000 Hz")):
        path = write(folder / "m.jsonl", A, {"audio_filepath": name, "duration": 1.0})
        assert len(load([path], Data())) == 2
        with pytest.raises(HarkError, match=rf"{name}: {found}, data.strict=true wants 1 and 16000 Hz"):
            load([path], Data(strict=True))
    (folder / "unknown.wav").write_bytes(b"?")
    path = write(folder / "m.jsonl", A, {"audio_filepath": "unknown.wav", "duration": 1.0})
    assert len(load([path], Data(strict=True))) == 2


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
    write(path, A | {"duration": 1.5})
    assert load([path], Data()).durations.tolist() == [1.5]
    assert len(list(cache.iterdir())) == 1


def test_a_manifest_that_changes_while_in_use_is_refused(folder):
    path = write(folder / "m.jsonl", A)
    found = load([path], Data())
    write(path, A | {"duration": 1.5})  # the same bytes but one
    with pytest.raises(HarkError, match=r"m.jsonl: changed while it was in use"):
        found.extra(0)
    again = load([path], Data())
    assert again.extra(0)["duration"] == 1.5
    path.write_text("x" * path.stat().st_size)
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


def test_equal_hashes_of_different_ids_are_no_error(folder, monkeypatch):
    found = load([write(folder / "m.jsonl", A | {"id": "one"}, A | {"id": "two"})], Data())
    found.rows["key"] = 7
    manifests.check_ids(found)


def test_the_summary_tells_what_is_done_to_the_data(folder):
    tone(folder / "c.wav", 1.0, 8_000)
    (folder / "bad.wav").write_bytes(b"?")
    names = ["a.wav", "deep/b.flac", "c.wav", "bad.wav"]
    lines = [
        {"audio_filepath": name, "duration": d} for name, d in zip(names, (2.0, 3.0, 1.0, 1.0), strict=True)
    ]
    found = load([write(folder / "m.jsonl", *lines, A | {"id": "long", "duration": 0.05})], Data())
    told = summarize(found, Plan(found.durations, *by_budget(found.durations, Data(buckets=1))), 16_000)
    assert (told.utterances, told.batches, told.averaged, told.unknown) == (4, 1, 1, 1)
    assert told.hours == pytest.approx(7 / 3600)
    assert told.resampled == {8_000: 1, 22_050: 1}
    assert told.left_out == {"under 0.1 s": 1}
    assert told.padding == pytest.approx(1 - 7 / 12)
    cells = [cell for column in told.table().columns for cell in column.cells]
    assert "resampled from 8,000 Hz" in cells
    assert "left out: under 0.1 s" in cells


def test_threads_share_one_open_manifest(folder):
    found = load([write(folder / "m.jsonl", *[A | {"id": str(i)} for i in range(64)])], Data())
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(16) as pool:
        for _ in range(50):
            manifests.opened.cache_clear()  # so that several find it not yet open
            assert [entry["id"] for entry in pool.map(found.extra, range(64))] == [str(i) for i in range(64)]
    sys.setswitchinterval(usual)
