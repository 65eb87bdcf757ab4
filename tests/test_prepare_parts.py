"""What prepared corpora are made of: parts, splits, standard audio."""

import random

import numpy as np
import pytest
import soundfile

from research.data.corpora import audio, clips, corpus, debspeech, splits


def test_a_recording_is_kept_once(tmp_path):
    def part(*digests):
        return corpus.Part([{"id": d, "digest": d, "duration": 1.0} for d in digests])

    rows, dropped = corpus.merge([part("a", "b"), part("b", "c")])
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert dropped["duplicate"] == 1
    pieces = corpus.Part([{"id": i, "digest": "x"} for i in range(3)])
    assert len(corpus.merge([pieces])[0]) == 3, "pieces of one recording are no repeats"


def test_a_part_is_made_again_when_its_source_changed(tmp_path):
    made = []
    for key in ("one", "one", "two"):
        corpus.remember(tmp_path, "p", key, lambda: made.append(0) or corpus.Part([]))
    assert len(made) == 2


def speech_rows(count):
    rows = [{"id": f"u{i}", "duration": 1.0} for i in range(count)]
    return [row | {"phones": [[0, 1, "a"]]} if i % 5 == 0 else row for i, row in enumerate(rows)]


def test_splits_hold_out_what_they_promise_in_any_order():
    rows = speech_rows(3100)
    found = {name: {row["id"] for row in part} for name, part in debspeech.split(rows).items()}
    everything = {row["id"] for row in rows}
    assert found["train"] == everything - found["valid"] - found["phones_test"]
    assert found["phones_train"] <= found["train"]
    assert not found["phones_train"] & found["phones_test"]
    assert not found["valid"] & (found["phones_train"] | found["phones_test"])
    assert len(found["valid"]) == 150
    assert 50 < len(found["phones_test"]) < 90
    assert 110 < len(found["phones_train"]) < 190
    random.Random(0).shuffle(rows)
    again = {name: {row["id"] for row in part} for name, part in debspeech.split(rows).items()}
    assert again == found


def test_a_sentence_keeps_its_place_when_others_come_or_go():
    few, many = debspeech.split(speech_rows(1000)), debspeech.split(speech_rows(3000))
    some = {f"u{i}" for i in range(1000)}
    for name in ("phones_train", "phones_test"):
        assert {r["id"] for r in few[name]} == {r["id"] for r in many[name]} & some
    assert splits.place({"id": "u0"}) == splits.place({"id": "u0", "duration": 2.0})


def test_validation_hears_no_labelled_sentence():
    rows = speech_rows(1000)
    found = splits.speech(rows, [row for row in rows if "phones" in row], test=0.01, train=0.99)
    assert len(found["valid"]) == 100
    assert not any("phones" in row for row in found["valid"])


# ---- audio ----


def wav(samples, rate, tmp_path):
    path = tmp_path / "x.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path.read_bytes()


def clip_of(data, **facts):
    return clips.Clip(key="a/b c", file="x.wav", data=data, kind="k", word="w", **facts)


def test_other_rates_stereo_and_loud_recordings_become_standard(tmp_path):
    t = np.arange(44_100) / 44_100
    left, right = (2.0 * np.sin(2 * np.pi * hz * t) for hz in (1000, 3000))
    (tmp_path / "src").mkdir()
    (row,) = clips.render(clip_of(wav(np.stack([left, right], 1), 44_100, tmp_path)), tmp_path, "src", 60.0)
    assert (row["id"], row["audio_filepath"], row["sr0"]) == ("src-a-b-c", "src/a-b-c.flac", 44_100)
    wave, rate = soundfile.read(tmp_path / "src" / "a-b-c.flac")
    assert (rate, len(wave), row["duration"]) == (16_000, 16_000, 1.0)
    lines = np.abs(np.fft.rfft(wave)) / 8000
    assert np.abs(wave).max() == pytest.approx(1.0, abs=1e-3)
    assert lines[1000] == pytest.approx(lines[3000], rel=1e-3), "both channels"
    assert np.delete(lines, [1000, 3000]).max() < 1e-3, "not clipped"


@pytest.mark.parametrize(
    ("samples", "reason"), [(np.full(1500, 0.1), "short"), (np.full(16_000, 1e-5), "quiet")]
)
def test_useless_recordings_are_dropped_with_the_reason(samples, reason, tmp_path):
    (tmp_path / "src").mkdir()
    assert clips.render(clip_of(wav(samples, 16_000, tmp_path)), tmp_path, "src", 60.0) == [reason]
    assert list((tmp_path / "src").iterdir()) == []


def test_long_recordings_are_cut_and_silent_pieces_dropped(tmp_path):
    (tmp_path / "src").mkdir()
    samples = np.concatenate([np.full(40_000, 0.1), np.zeros(20_000)])
    found = clips.render(clip_of(wav(samples, 16_000, tmp_path)), tmp_path, "src", 1.25)
    assert [piece if isinstance(piece, str) else piece["duration"] for piece in found] == [
        1.25,
        1.25,
        "quiet",
    ]
    assert [piece["id"] for piece in found[:2]] == ["src-a-b-c-000", "src-a-b-c-001"]


def test_pieces_lose_no_sample():
    wave = np.arange(100_001, dtype=np.float32)
    cut = audio.pieces(wave, 1.0)
    assert max(map(len, cut)) <= 16_000
    assert (np.concatenate(cut) == wave).all()
    assert len(audio.pieces(wave[:16_000], 1.0)) == 1
