"""Lines of manifests -> samples: files and members of tars, windows, speeds, channels, and what cannot be read."""

import re

import numpy as np
import pytest
import soundfile
import torch

from research.config import Mix, Reverb
from research.data import audio
from research.data.streams.clip import Address
from research.errors import HarkError
from tests.clips import KINDS, clip_of, encoded, hear, loader_of, one, relative, tar_of
from tests.sounds import RATE, signal_of


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (8_000, 2), (48_000, 2)])
def test_a_member_gives_the_samples_of_the_file(tmp_path, kind, rate, channels):
    data = encoded(signal_of(3.0, rate, channels), rate, kind)
    (tmp_path / f"a.{kind}").write_bytes(data)
    there = tar_of(tmp_path / "audio_0.tar", {"other": b"x" * 1000, f"a.{kind}": data})
    for offset, duration in ((0.0, 3.0), (0.5, 2.25)):
        line = {"audio_filepath": f"a.{kind}", "duration": duration, "offset": offset}
        wanted = audio.read(str(tmp_path / f"a.{kind}"), offset, duration, RATE).samples
        for member in (None, there[f"a.{kind}"]):
            heard = hear(loader_of(), clip_of(line, tmp_path, member=member))
            assert torch.equal(heard.batch.audio.x, torch.from_numpy(wanted)[None])
            assert heard.counts["converted"] == (rate != RATE or channels > 1)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_other_rates_become_the_wanted_one(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", signal_of(2.0, rate), rate, subtype="FLOAT")
    x = one(clip_of({"audio_filepath": "a.wav", "duration": 2.0}, tmp_path))
    assert len(x) == 2 * RATE
    wanted = signal_of(2.0, RATE)[:, 0]
    assert np.abs(x - wanted)[1000:-1000].max() < 0.002


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_a_slice_of_the_whole(tmp_path, kind):
    soundfile.write(tmp_path / f"a.{kind}", signal_of(8.0, RATE), RATE, **KINDS[kind])
    line = {"audio_filepath": f"a.{kind}", "offset": 1.0, "duration": 6.0, "id": "a"}
    every = one(clip_of(line, tmp_path))
    assert len(every) == 6 * RATE
    for start in (0.5, 2.25, 4.0):
        part = one(clip_of(line, tmp_path, start=start, duration=2.0))
        begin = round(start * RATE)
        assert np.abs(part - every[begin : begin + 2 * RATE]).max() < 1e-6


def test_a_batch_keeps_order_names_rows_and_its_place(tmp_path):
    soundfile.write(tmp_path / "a.wav", signal_of(3.0, RATE), RATE)
    line = {"audio_filepath": "a.wav", "duration": 1.0}
    named, segment = line | {"id": "mine"}, line | {"offset": 1.5}
    heard = hear(loader_of(), *[clip_of(x, tmp_path, row=i) for i, x in ((4, named), (2, segment))], epoch=3)
    assert (heard.epoch, heard.lane, heard.first, heard.rows) == (3, 2, 7, [4, 2])
    assert heard.batch.ids == ["mine", f"{tmp_path}/a.wav@1.5"]
    assert heard.seconds == heard.padded == 2.0
    assert heard.batch.noisy is heard.batch.audio


@pytest.mark.parametrize("speed", [0.9, 1.1, 1.037])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_speed_gives_the_length_to_the_sample(tmp_path, speed, rate):
    soundfile.write(tmp_path / "a.wav", signal_of(9.0, rate), rate, subtype="FLOAT")
    line = {"audio_filepath": "a.wav", "offset": 0.3, "duration": 7.123}
    for start, seconds in ((0.0, None), (0.0, 1.2345), (3.21, 2.0001), (1.1, 4.44443)):
        made = clip_of(line, tmp_path, start=start, duration=seconds, speed=speed)
        assert len(one(made)) == round(made.duration * RATE)


def test_a_file_that_ends_early_gets_no_padding(tmp_path):
    soundfile.write(tmp_path / "a.wav", signal_of(1.95, RATE), RATE, subtype="FLOAT")
    line = {"audio_filepath": "a.wav", "duration": 2.0}
    assert len(one(clip_of(line, tmp_path, speed=1.1))) == round(1.95 / 1.1 * RATE)


@pytest.mark.parametrize(
    ("channel", "extra", "tags", "wanted"),
    [
        ("average", {}, {}, None),
        (0, {}, {}, 0),
        (1, {}, {}, 1),
        ("target", {"target": 1}, {"target": 0}, 1),
        ("target", {"custom": {"target": 1}}, {"target": 0}, 1),
        ("target", {}, {"target": 1}, 1),
    ],
)
def test_the_channel_is_that_of_the_config_the_line_or_the_source(tmp_path, channel, extra, tags, wanted):
    x = signal_of(1.0, RATE, 2)
    soundfile.write(tmp_path / "a.wav", x, RATE, subtype="FLOAT")
    line = {"audio_filepath": "a.wav", "duration": 1.0} | extra
    heard = hear(loader_of(channel=channel, tags=tags), clip_of(line, tmp_path))
    expected = x.mean(1, dtype=np.float32) if wanted is None else x[:, wanted]
    assert np.array_equal(heard.batch.audio.x[0].numpy(), expected)
    assert heard.counts["converted"] == (wanted is None)


@pytest.mark.parametrize(
    ("channel", "extra", "told"),
    [
        (2, {}, "has 2 channels, not 2"),
        ("target", {}, r"gives no such number \(None\)"),
        ("target", {"target": "left"}, r"gives no such number \('left'\)"),
        ("target", {"target": -1}, "has 2 channels, not -1"),
    ],
)
def test_a_channel_that_is_not_there_leaves_the_utterance_out(tmp_path, channel, extra, told):
    soundfile.write(tmp_path / "a.wav", signal_of(1.0, RATE, 2), RATE)
    line = {"audio_filepath": "a.wav", "duration": 1.0} | extra
    heard = hear(loader_of(channel=channel), clip_of(line, tmp_path))
    assert heard.batch is None
    assert re.search(f"a.wav: data.channel={channel}: .*{told}", heard.bad[0])


def test_what_cannot_be_decoded_is_left_out_and_told(cuts, tmp_path):
    x = signal_of(2.0, RATE)
    holed = x.copy()
    holed[100] = np.nan
    good = encoded(x, RATE, "flac")
    members = {
        "good": good,
        "nan": encoded(holed, RATE, "wav"),
        "half": good[: len(good) // 2],
        "junk": b"#" * 99,
    }
    there = tar_of(tmp_path / "audio_0.tar", members | {"last": good})
    last = there["last"]
    with open(tmp_path / "audio_0.tar", "rb+") as file:
        file.truncate(last.offset + last.size // 2)
    line = {"audio_filepath": "x.flac", "duration": 2.0}
    mixed = relative(cuts[0]["mixed"], cuts[1])
    clips = {
        "good": clip_of(line, tmp_path, member=there["good"]),
        "nan": clip_of(line, tmp_path, member=there["nan"]),
        "half": clip_of(line, tmp_path, member=there["half"]),
        "junk": clip_of(line, tmp_path, member=there["junk"]),
        "last": clip_of(line, tmp_path, member=last),
        "tar": clip_of(line, tmp_path, member=Address(str(tmp_path / "gone.tar"), 0, 9)),
        "file": clip_of(line, tmp_path),
        "long": clip_of(line, tmp_path, duration=2.5, member=there["good"]),
        "late": clip_of(line, tmp_path, duration=1.0, start=3.0, member=there["good"]),
        "mixed": clip_of(mixed, tmp_path),
        "empty": clip_of({"duration": 1.0}, tmp_path),
        "again": clip_of(line, tmp_path, member=there["good"]),
    }
    heard = hear(loader_of(), *clips.values())
    assert len(heard.batch.ids) == 2
    assert len(heard.bad) == 10
    assert dict(heard.counts) == {
        "utterances": 2,
        "silent": 0,
        "converted": 0,
        "not_finite": 1,
        "missing": 2,
        "too_short": heard.counts["too_short"],
        "broken": 7 - heard.counts["too_short"],
    }
    assert all("\n" not in line for line in heard.bad)
    for told in (
        "audio_0.tar:x.flac: holds NaN",
        "audio_0.tar:x.flac: the tar ends before its member does",
        "gone.tar:x.flac: cannot be read",
        "x.flac: is missing",
        "gives 2.00 s instead of 2.50 s from 0.00 s on",
        "lhotse cannot load it",
        "has no audio_filepath",
    ):
        assert sum(told in line for line in heard.bad) == 1, told


def test_a_batch_of_nothing_but_bad_utterances_is_none(tmp_path):
    heard = hear(loader_of(), clip_of({"audio_filepath": "x.wav", "duration": 1.0}, tmp_path))
    assert heard.batch is None
    assert heard.rows == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"channel": -1}, "data.channel=-1: must be average, a number from 0, or a key"),
        ({"channel": 1.5}, "data.channel=1.5: must be"),
        ({"mix": Mix(prob=0.5)}, r"data.mix.prob=0.5: needs data.mix.paths="),
        ({"mix": Mix(prob=1.5)}, "data.mix.prob=1.5: must be from 0 to 1"),
        ({"mix": Mix(prob=0.5, paths=["x"], snr=(9, 3))}, r"data.mix.snr=\[9,3\]: the lower"),
        ({"reverb": Reverb(prob=-1.0)}, "data.reverb.prob=-1: must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, told):
    with pytest.raises(HarkError, match=told):
        loader_of(**settings)
