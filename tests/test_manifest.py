"""Manifests: what is read of them, what is left out, and what is wrong in them."""

import pytest

from research.config import Data
from research.data import manifest as manifests
from research.data.manifest import load, load_noise
from research.data.plan import Plan, by_budget
from research.data.summary import summarize
from research.errors import HarkError
from tests.tones import A, tone, tones_in, write

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path):
    return tones_in(tmp_path)


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
