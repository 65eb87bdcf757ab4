"""Cuts of lhotse -> samples: as lhotse itself gives them."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from research.data import audio
from research.data.streams.clip import Address, Format
from research.errors import HarkError
from tests.clips import NAMES, clip_of, encoded, hear, loader_of, one, relative, tar_of
from tests.sounds import RATE, signal_of


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_gives_what_lhotse_gives(cuts, name):
    cut = cuts[0][name]
    wanted = cut.load_audio()
    assert len(wanted) == 1
    frames = audio.resample(wanted[0], cut.sampling_rate, RATE)
    assert np.array_equal(one(clip_of(relative(cut, cuts[1]), cuts[1])), frames)


def test_all_channels_of_a_cut_are_averaged(cuts):
    wanted = cuts[0]["pair"].load_audio()
    line = relative(cuts[0]["pair"], cuts[1])
    assert np.array_equal(one(clip_of(line, cuts[1])), wanted.mean(0, dtype=np.float32))
    assert np.array_equal(one(clip_of(line, cuts[1]), channel=1), wanted[1])


def test_a_cut_is_resampled(cuts):
    cut = cuts[0]["low"]
    assert len(one(clip_of(relative(cut, cuts[1]), cuts[1]))) == 4 * RATE
    assert len(one(clip_of(relative(cut, cuts[1]), cuts[1]), sample_rate=8_000)) == 4 * 8_000


@pytest.mark.parametrize("name", ["mono", "part", "second", "fast", "mixed", "glued"])
def test_a_window_of_a_cut_is_a_slice_of_it(cuts, name):
    line = relative(cuts[0][name], cuts[1])
    every = one(clip_of(line, cuts[1]))
    part = one(clip_of(line, cuts[1], start=0.4, duration=0.8))
    assert len(part) == round(0.8 * RATE)
    edge = 100  # of the filter that changes speed
    error = part - every[round(0.4 * RATE) :][: len(part)]
    assert np.abs(error[edge:-edge]).max() < (1e-3 if name == "fast" else 1e-6)


@pytest.mark.parametrize("kind", ["flac", "opus", "wav"])
def test_a_shar_gives_what_lhotse_gives(cuts, tmp_path, kind):
    from lhotse import CutSet

    plain = CutSet.from_cuts([cuts[0]["mono"], cuts[0]["part"], cuts[0]["second"], cuts[0]["pair"]])
    plain.to_shar(tmp_path, {"recording": kind}, shard_size=None, include_cuts=True)
    with tarfile.open(next(tmp_path.glob("recording*.tar"))) as tar:
        members = {
            Path(info.name).stem: Address(tar.name, info.offset_data, info.size)
            for info in tar
            if not info.name.endswith(".json")
        }
    written = CutSet.from_shar(in_dir=tmp_path)
    clips, wanted = [], []
    for line, cut in zip(CutSet.from_file(next(tmp_path.glob("cuts*"))), written, strict=True):
        clips.append(clip_of(line.to_dict(), tmp_path, member=members[cut.id]))
        wanted.append(audio.resample(cut.load_audio().mean(0, dtype=np.float32), cut.sampling_rate, RATE))
    found = hear(loader_of(), *clips)
    assert found.bad == []
    for row, x, n in zip(found.batch.audio.x, wanted, found.batch.audio.lengths.tolist(), strict=True):
        assert np.array_equal(row[:n].numpy(), x)


def test_a_cut_may_leave_out_its_type_and_in_a_shar_its_recording(cuts, tmp_path):
    line = relative(cuts[0]["part"], cuts[1])
    wanted = one(clip_of(line, cuts[1]))
    there = tar_of(tmp_path / "r.tar", {"part.wav": encoded(wanted, RATE, "wav")})
    bare = {key: line[key] for key in ("id", "start", "duration", "recording")}
    assert np.array_equal(one(clip_of(bare, cuts[1])._replace(format=Format.cut)), wanted)
    bare |= {"start": 0, "recording": None}
    alone = clip_of(bare, tmp_path, member=there["part.wav"])._replace(format=Format.cut)
    assert np.array_equal(one(alone), wanted)


def test_a_transformed_cut_of_a_shar_goes_through_lhotse(cuts, tmp_path):
    cut = cuts[0]["mono"].perturb_speed(0.9)
    line = relative(cut, cuts[1])
    line["recording"]["sources"] = [{"type": "shar", "channels": [0], "source": ""}]
    there = tar_of(tmp_path / "r.tar", {"mono.flac": (cuts[1] / "mono.flac").read_bytes()})
    found = one(clip_of(line, tmp_path, member=there["mono.flac"]))
    assert np.array_equal(found, cut.load_audio()[0])


def test_a_speed_is_that_of_lhotse(cuts):
    line = relative(cuts[0]["mono"], cuts[1])
    for speed in (0.9, 1.1):
        wanted = cuts[0]["mono"].perturb_speed(speed).load_audio()[0]
        found = one(clip_of(line, cuts[1], speed=speed))
        assert abs(len(found) - len(wanted)) <= 1
        error = (found[: len(wanted)] - wanted[: len(found)])[500:-500]
        assert np.abs(error).max() < 0.005


def test_a_cut_of_a_channel_that_its_file_lacks(cuts):
    line = relative(cuts[0]["second"], cuts[1])
    line["recording"]["sources"][0] |= {"source": "mono.flac"}
    heard = hear(loader_of(), clip_of(line, cuts[1]))
    assert "mono.flac: has the channels [0], the cut wants [1]" in heard.bad[0]


def test_nan_that_lhotse_gives_is_found(tmp_path):
    from lhotse import Recording

    x = signal_of(1.0, RATE)
    x[100] = np.nan
    soundfile.write(tmp_path / "nan.wav", x, RATE, subtype="FLOAT")
    cut = Recording.from_file(tmp_path / "nan.wav").to_cut().pad(duration=1.5)
    heard = hear(loader_of(), clip_of(cut.to_dict(), tmp_path))
    assert heard.bad == [f"{cut.id}: holds NaN or infinite samples"]
    assert heard.counts["not_finite"] == 1


def test_strict_refuses_to_convert(cuts):
    with pytest.raises(HarkError, match=r"low.wav: 1 channels and 8000 Hz, data.strict=true"):
        hear(loader_of(strict=True), clip_of(relative(cuts[0]["low"], cuts[1]), cuts[1]))
