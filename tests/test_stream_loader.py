"""Clips of streams -> samples: decoding, rates, speeds, channels, noise and rooms."""

import io
import json
import pickle
import re
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from research.config import Mix, Reverb, Streams
from research.data import audio, torch_reader
from research.data.manifest import load_noise
from research.data.streams.clip import Address, Clip, Format, Portion
from research.data.streams.loader import StreamLoader
from research.engine import pipeline
from research.errors import HarkError
from tests.sounds import RATE, signal_of, write

KINDS = {
    "flac": {"format": "FLAC"},
    "wav": {"format": "WAV", "subtype": "FLOAT"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
}


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@dataclass
class Source:
    tags: dict = field(default_factory=dict)


def loader_of(noise=None, seed=0, tags=None, **settings):
    cfg = Streams(**settings)
    return StreamLoader(cfg, [Source(tags or {})], load_noise([noise], cfg) if noise else None, seed)


def clip_of(line, folder, *, duration=None, start=0.0, speed=1.0, row=0, member=None):
    kind = Format.cut if "type" in line else Format.nemo
    seconds = duration or (whole(line) - start) / speed
    return Clip(seconds, start, speed, 0, row, kind, json.dumps(line).encode(), str(folder), member)


def whole(line):
    """Seconds of a line of a manifest or a cut."""
    if line.get("type") == "MixedCut":
        return max(track.get("offset", 0) + track["cut"]["duration"] for track in line["tracks"])
    return line["duration"]


def hear(loader, *clips, epoch=0):
    return loader.load(Portion(epoch, 2, 7, list(clips)))


def one(clip, **settings):
    """Samples of the only row, whose length is that of the batch."""
    heard = hear(loader_of(**settings), clip)
    assert heard.bad == []
    return heard.batch.audio.x[0].numpy()


def encoded(x, rate, kind):
    file = io.BytesIO()
    soundfile.write(file, x, rate, **KINDS[kind])
    return file.getvalue()


def tar_of(path, members):
    """Write members into a tar and find them again."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        return {info.name: Address(str(path), info.offset_data, info.size) for info in tar}


# lines of manifests


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


# cuts


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    """Cuts of lhotse by name, and the folder of their audio."""
    from lhotse import MonoCut, Recording

    folder = tmp_path_factory.mktemp("cuts")
    recordings = {}
    for name, rate, channels, kind in (
        ("mono", 16_000, 1, "flac"),
        ("opus", 48_000, 1, "opus"),
        ("low", 8_000, 1, "wav"),
        ("pair", 16_000, 2, "wav"),
    ):
        path = folder / f"{name}.{kind}"
        soundfile.write(path, signal_of(4.0, rate, channels, len(name)), rate, **KINDS[kind])
        recordings[name] = Recording.from_file(path)
    found = {name: recording.to_cut() for name, recording in recordings.items()}
    found["part"] = MonoCut("part", 1.25, 2.0, 0, recording=recordings["mono"])
    found["second"] = MonoCut("second", 0.5, 3.0, 1, recording=recordings["pair"])
    found["fast"] = found["part"].perturb_speed(1.1)
    found["room"] = found["part"].reverb_rir(recordings["low"].resample(16_000))
    found["mixed"] = found["part"].mix(found["mono"].truncate(duration=1.5), offset_other_by=0.25, snr=5)
    found["padded"] = found["part"].pad(duration=2.5)
    found["glued"] = found["part"].append(found["fast"])
    return found, folder


def relative(cut, folder):
    """A cut's JSON with paths from the folder on."""
    return json.loads(json.dumps(cut.to_dict()).replace(f"{folder}/", ""))


NAMES = ["mono", "opus", "part", "second", "fast", "room", "mixed", "padded", "glued"]


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


def test_a_transformed_cut_of_a_shar_goes_through_lhotse(cuts, tmp_path):
    cut = cuts[0]["mono"].perturb_speed(0.9)
    line = relative(cut, cuts[1])
    line["recording"]["sources"] = [{"type": "shar", "channels": [0], "source": ""}]
    there = tar_of(tmp_path / "r.tar", {"mono.flac": (cuts[1] / "mono.flac").read_bytes()})
    found = one(clip_of(line, tmp_path, member=there["mono.flac"]))
    assert np.array_equal(found, cut.load_audio()[0])


# speed


@pytest.mark.parametrize("speed", [0.9, 1.1, 1.037])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_speed_gives_the_length_to_the_sample(tmp_path, speed, rate):
    soundfile.write(tmp_path / "a.wav", signal_of(9.0, rate), rate, subtype="FLOAT")
    line = {"audio_filepath": "a.wav", "offset": 0.3, "duration": 7.123}
    for start, seconds in ((0.0, None), (0.0, 1.2345), (3.21, 2.0001), (1.1, 4.44443)):
        made = clip_of(line, tmp_path, start=start, duration=seconds, speed=speed)
        assert len(one(made)) == round(made.duration * RATE)


def test_a_speed_is_that_of_lhotse(cuts):
    line = relative(cuts[0]["mono"], cuts[1])
    for speed in (0.9, 1.1):
        wanted = cuts[0]["mono"].perturb_speed(speed).load_audio()[0]
        found = one(clip_of(line, cuts[1], speed=speed))
        assert abs(len(found) - len(wanted)) <= 1
        error = (found[: len(wanted)] - wanted[: len(found)])[500:-500]
        assert np.abs(error).max() < 0.005


def test_a_file_that_ends_early_gets_no_padding(tmp_path):
    soundfile.write(tmp_path / "a.wav", signal_of(1.95, RATE), RATE, subtype="FLOAT")
    line = {"audio_filepath": "a.wav", "duration": 2.0}
    assert len(one(clip_of(line, tmp_path, speed=1.1))) == round(1.95 / 1.1 * RATE)


# channels


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


def test_a_cut_of_a_channel_that_its_file_lacks(cuts):
    line = relative(cuts[0]["second"], cuts[1])
    line["recording"]["sources"][0] |= {"source": "mono.flac"}
    heard = hear(loader_of(), clip_of(line, cuts[1]))
    assert "mono.flac: has the channels [0], the cut wants [1]" in heard.bad[0]


# faults


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


def test_strict_refuses_to_convert(cuts):
    with pytest.raises(HarkError, match=r"low.wav: 1 channels and 8000 Hz, data.strict=true"):
        hear(loader_of(strict=True), clip_of(relative(cuts[0]["low"], cuts[1]), cuts[1]))


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


# noise and rooms


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve utterances of one to two seconds."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    found = []
    for i in range(12):
        x = 0.1 * rng.standard_normal(RATE + 1000 * i)
        soundfile.write(folder / f"{i}.flac", x, RATE)
        line = {"audio_filepath": f"{i}.flac", "duration": len(x) / RATE}
        found.append(clip_of(line, folder, row=i))
    return found


@pytest.fixture(scope="module")
def hum(tmp_path_factory):
    """A noise corpus without a fault: a short clip and a long one."""
    folder = tmp_path_factory.mktemp("hum")
    soundfile.write(folder / "short.wav", signal_of(0.35, RATE), RATE)
    soundfile.write(folder / "long.wav", signal_of(9.0, 8_000), 8_000)
    lines = [{"audio_filepath": f"{k}.wav", "duration": v} for k, v in (("short", 0.35), ("long", 9.0))]
    return str(write(folder / "hum.jsonl", *lines))


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    """A corpus of one impulse response, delayed by 40 samples, of two channels."""
    folder = tmp_path_factory.mktemp("rooms")
    x = np.zeros((800, 2))
    x[40, 0], x[90, 0] = 0.8, 0.4
    x[300, 1] = 0.8
    soundfile.write(folder / "room.wav", x, RATE, subtype="FLOAT")
    return str(write(folder / "rooms.jsonl", {"audio_filepath": "room.wav", "duration": 0.05}))


def rows_of(seq):
    return [row[:n] for row, n in zip(seq.x, seq.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("what", ["mix", "reverb", "response", "both"])
def test_only_the_noisy_side_is_changed(clips, hum, responses, what):
    settings = {
        "mix": {"mix": Mix(prob=0.5, paths=[hum])},
        "reverb": {"reverb": Reverb(prob=0.5)},
        "response": {"reverb": Reverb(prob=0.5, paths=[responses])},
        "both": {"mix": Mix(prob=0.5, paths=[hum]), "reverb": Reverb(prob=0.5)},
    }[what]
    quiet, batch = hear(loader_of(), *clips).batch, hear(loader_of(**settings), *clips).batch
    assert torch.equal(batch.audio.x, quiet.audio.x)
    assert torch.equal(batch.audio.lengths, quiet.audio.lengths)
    assert torch.equal(batch.noisy.lengths, quiet.audio.lengths)
    differs = (batch.noisy.x != batch.audio.x).any(1)
    assert batch.changed.tolist() == differs.nonzero()[:, 0].tolist()
    assert 0 < len(batch.changed) < 12
    assert all(not row[n:].any() for row, n in zip(batch.noisy.x, batch.noisy.lengths.tolist(), strict=True))


def test_both_sides_are_changed_where_the_config_wants_it(clips, hum):
    settings = {"mix": Mix(prob=1.0, paths=[hum], clean=True), "reverb": Reverb(prob=1.0, clean=True)}
    quiet, batch = hear(loader_of(), *clips).batch, hear(loader_of(**settings), *clips).batch
    assert batch.noisy is batch.audio
    assert len(batch.changed) == 0
    assert torch.equal(batch.audio.lengths, quiet.audio.lengths)
    assert (batch.audio.x != quiet.audio.x).any(1).all()


def test_noise_on_both_sides_and_a_room_on_one(clips, hum):
    mix = Mix(prob=1.0, paths=[hum], clean=True)
    noise = hear(loader_of(mix=mix), *clips).batch
    batch = hear(loader_of(mix=mix, reverb=Reverb(prob=1.0)), *clips).batch
    assert torch.equal(batch.audio.x, noise.audio.x)
    assert batch.changed.tolist() == list(range(12))


def test_noise_has_the_snr_and_covers_the_utterance(clips, hum):
    batch = hear(loader_of(mix=Mix(prob=1.0, paths=[hum], snr=(3.0, 7.0))), *clips).batch
    levels = []
    for clean, noisy in zip(rows_of(batch.audio), rows_of(batch.noisy), strict=True):
        noise = noisy - clean
        levels.append(10 * float((clean.square().mean() / noise.square().mean()).log10()))
        assert noise[-1000:].square().mean() > 0.1 * noise.square().mean()
    assert min(levels) > 2.99
    assert max(levels) < 7.01
    assert max(levels) - min(levels) > 1


def test_a_room_is_moved_back_and_keeps_the_level(clips, responses):
    batch = hear(loader_of(reverb=Reverb(prob=1.0, paths=[responses])), *clips).batch
    for clean, noisy in zip(rows_of(batch.audio), rows_of(batch.noisy), strict=True):
        echo = clean.clone()
        echo[50:] += 0.5 * clean[:-50]
        echo *= (clean.square().sum() / echo.square().sum()).sqrt()
        assert (noisy - echo).abs().max() < 1e-4


def test_rooms_of_lhotse_leave_the_default_generator_alone(clips):
    loader = loader_of(reverb=Reverb(prob=1.0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = hear(loader, *clips[:3]).batch.noisy.x
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(hear(loader, *clips[:3]).batch.noisy.x, first)


def test_what_is_drawn_depends_on_seed_epoch_and_utterance_alone(clips, hum):
    settings = {"noise": hum, "mix": Mix(prob=1.0, paths=[hum]), "reverb": Reverb(prob=1.0)}

    def row(clips, of, *, epoch=0, seed=0):
        batch = hear(loader_of(seed=seed, **settings), *clips, epoch=epoch).batch
        place = clips.index(of)
        return rows_of(batch.noisy)[place], rows_of(batch.noise)[place]

    alone = row([clips[3]], clips[3])
    among = row(clips[::-1], clips[3])
    assert all(torch.equal(a, b) for a, b in zip(alone, among, strict=True))
    for other in (
        row([clips[3]], clips[3], epoch=1),
        row([clips[3]], clips[3], seed=1),
        row([clips[3]._replace(row=99)], clips[3]._replace(row=99)),
    ):
        assert not torch.equal(other[0], alone[0])


def test_a_perturbation_does_not_move_the_draws_of_another(clips, hum):
    noise = {"mix": Mix(prob=0.5, paths=[hum])}
    rooms = noise | {"reverb": Reverb(prob=0.5)}
    own = hear(loader_of(hum, **noise), *clips).batch.noise
    assert torch.equal(own.x, hear(loader_of(hum), *clips).batch.noise.x)
    assert torch.equal(own.x, hear(loader_of(hum, **rooms), *clips).batch.noise.x)
    alone, both = (set(hear(loader_of(**s), *clips).batch.changed.tolist()) for s in (noise, rooms))
    assert alone <= both


def test_the_objective_gets_a_clip_of_noise_for_every_row(clips, hum):
    batch = hear(loader_of(hum), *clips).batch
    assert (batch.noise.lengths <= batch.audio.lengths).all()
    assert 0 < (batch.noise.lengths == round(0.35 * RATE)).sum() < 12
    assert batch.noisy is batch.audio


def test_broken_noise_is_replaced_and_told(clips, noises):
    heard = hear(loader_of(mix=Mix(prob=1.0, paths=[str(noises)])), *clips)
    assert heard.bad == []
    assert set(heard.bad_noise) == {f"{noises.parent}/broken.wav: cannot be decoded (Format not recognised)"}


def test_nothing_but_silent_rooms_is_an_error(clips, tmp_path):
    soundfile.write(tmp_path / "zero.wav", np.zeros(800), RATE)
    rooms = str(write(tmp_path / "r.jsonl", {"audio_filepath": "zero.wav", "duration": 0.05}))
    with pytest.raises(HarkError, match=r"zero.wav: .* in a row; see data.reverb.paths"):
        hear(loader_of(reverb=Reverb(prob=1.0, paths=[rooms])), *clips[:1])


# readers


@pytest.mark.parametrize(("read", "workers"), [(torch_reader.read, 2), (pipeline.read, 2)])
def test_workers_give_what_this_process_gives(clips, hum, cuts, read, workers):
    if read is pipeline.read and pipeline.problem():
        pytest.skip(pipeline.problem())
    loader = loader_of(hum, mix=Mix(prob=0.5, paths=[hum]), reverb=Reverb(prob=0.3))
    lines = [clip_of(relative(cuts[0][name], cuts[1]), cuts[1], row=i) for i, name in enumerate(NAMES)]
    portions = [Portion(e, 0, 0, part) for e in range(3) for part in (clips[:6], clips[6:], lines)]
    wanted = [loader.load(portion) for portion in portions]
    for found, alone in zip(
        read(portions, pickle.loads(pickle.dumps(loader)).load, workers), wanted, strict=True
    ):
        assert found.batch.ids == alone.batch.ids
        assert torch.equal(found.batch.audio.x, alone.batch.audio.x)
        assert torch.equal(found.batch.noisy.x, alone.batch.noisy.x)
        assert torch.equal(found.batch.noise.x, alone.batch.noise.x)
        assert torch.equal(found.batch.changed, alone.batch.changed)
