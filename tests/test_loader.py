import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from research.config import Data
from research.data import audio, torch_reader
from research.data.loader import Loader
from research.data.manifest import load, load_noise
from research.data.plan import Item, Plan, by_budget, in_order
from research.data.stream import once, stream
from research.engine import bindings, pipeline
from research.errors import HarkError

RATE = 16_000


def signal_of(seconds, rate, channels=1, seed=0):
    """Two sines, low enough to survive any conversion; channels differ by their level."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 + 10 * seed) * t) + 0.1 * np.sin(2 * np.pi * 1300 * t)
    return np.stack([wave * (1 + 0.5 * c) for c in range(channels)], 1).astype(np.float32)


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """40 utterances: whole files of several formats, rates and channels, and segments of two long files."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    kinds = itertools.cycle([("wav", 16_000, 1), ("flac", 22_050, 1), ("ogg", 44_100, 2), ("wav", 8_000, 2)])
    for i, (ending, rate, channels) in zip(range(24), kinds, strict=False):
        seconds = 0.3 + 0.07 * i
        soundfile.write(folder / f"{i}.{ending}", signal_of(seconds, rate, channels, i), rate)
        lines.append({"audio_filepath": f"{i}.{ending}", "duration": round(seconds, 2)})
    for ending in ("flac", "ogg"):
        soundfile.write(folder / f"long.{ending}", signal_of(8.0, RATE), RATE)
        lines += [{"audio_filepath": f"long.{ending}", "offset": 0.9 * i, "duration": 0.8} for i in range(8)]
    return write(folder / "train.jsonl", *lines)


@pytest.fixture(scope="module")
def noises(tmp_path_factory):
    """Four clips: a short and a long one, digital silence, and one that cannot be decoded."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    soundfile.write(folder / "short.wav", 0.1 * rng.standard_normal(2_000), RATE)
    soundfile.write(folder / "long.flac", 0.1 * rng.standard_normal(90 * 8_000), 8_000)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    (folder / "broken.wav").write_bytes(b"not audio")
    clips = {"short.wav": 0.125, "long.flac": 90.0, "silence.wav": 1.0, "broken.wav": 1.0}
    return write(folder / "noise.jsonl", *[{"audio_filepath": k, "duration": v} for k, v in clips.items()])


def loader_of(train, noise=None, seed=0, **settings):
    cfg = Data(batch_seconds=6.0, buckets=4, **settings)
    return Loader(load([train], cfg), load_noise([noise], cfg) if noise else None, cfg, seed)


def plan_of(loader, **how):
    durations = loader.speech.durations
    return Plan(durations, *by_budget(durations, loader.cfg), **how)


def take(loader, plan, number, read=torch_reader.read, **how):
    batches = stream(loader, plan, read, **how)
    found = list(itertools.islice(batches, number))
    batches.close()
    return found


def same(a, b):
    pairs = [(a.batch.audio, b.batch.audio)]
    pairs += [(a.batch.noise, b.batch.noise)] if a.batch.noise else []
    equal = all(torch.equal(x.x, y.x) and torch.equal(x.lengths, y.lengths) for x, y in pairs)
    return equal and a.batch.ids == b.batch.ids and (a.epoch, a.converted) == (b.epoch, b.converted)


def everything(loader):
    return loader.load(Item(0, np.arange(len(loader.speech))))


# what is read


def test_every_row_is_its_segment_mono_at_the_rate(corpus):
    loader = loader_of(corpus)
    found = everything(loader)
    batch = found.batch
    assert batch.audio.x.dtype == torch.float32
    assert batch.audio.lengths.dtype == torch.int64
    assert batch.audio.x.shape == (40, batch.audio.lengths.max())
    for i, (row, length) in enumerate(zip(batch.audio.x, batch.audio.lengths.tolist(), strict=True)):
        one = loader.speech.utterance(i)
        assert batch.ids[i] == one.id
        assert abs(length - one.duration * RATE) <= 0.01 * RATE
        whole = "long" in one.path
        wanted = signal_of(8.0, RATE)[:, 0] if whole else signal_of(one.duration, RATE, 1, i)[:, 0]
        level = 1.25 if loader.speech.rows["channels"][i] == 2 else 1.0
        start = round(one.offset * RATE)
        middle = slice(length // 4, 3 * length // 4)
        error = row[:length][middle].numpy() - level * wanted[start : start + length][middle]
        assert np.abs(error).max() < (0.05 if one.path.endswith("ogg") else 0.005)
        assert not row[length:].any()
    assert found.converted == 18
    assert found.seconds == pytest.approx(loader.speech.durations.sum(), rel=0.01)
    assert found.padded == batch.audio.x.numel() / RATE
    assert found.bad == []
    assert batch.noise is None
    assert batch.noisy is batch.audio


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "VORBIS", "OPUS", "MP3"])
def test_a_segment_is_a_slice_of_the_whole(tmp_path, kind):
    path = str(tmp_path / "x")
    how = {"format": "OGG", "subtype": kind} if kind in {"VORBIS", "OPUS"} else {"format": kind}
    soundfile.write(path, signal_of(8.0, RATE), RATE, **how)
    whole = audio.read(path, 0.0, 8.0, RATE).samples
    for offset in (0.5, 1.25, 4.8, 6.0):
        part = audio.read(path, offset, 2.0, RATE).samples
        start = round(offset * RATE)
        assert np.abs(part - whole[start : start + 2 * RATE]).max() < 1e-6


def test_strict_refuses_what_the_headers_did_not_show(corpus):
    cfg = Data(strict=True)
    speech = load([corpus], Data(), headers=False)
    with pytest.raises(
        HarkError, match=r"1.flac: 1 channels and 22050 Hz, data.strict=true wants 1 and 16000 Hz"
    ):
        Loader(speech, None, cfg, 0).load(Item(0, np.array([0, 1])))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_still_one_line(corpus, workers):
    speech = load([corpus], Data(), headers=False)
    loader = Loader(speech, None, Data(strict=True), 0)
    with pytest.raises(HarkError) as error:
        list(torch_reader.read([Item(0, np.array([1]))], loader.load, workers))
    assert "\n" not in str(error.value)


# noise


def test_noise_never_changes_the_speech_length(corpus, noises):
    """The clip's own length goes with the clip; speech keeps its own, and padding is never called audio."""
    loader = loader_of(corpus, noises)
    quiet, found = everything(loader_of(corpus)).batch, everything(loader).batch
    assert torch.equal(found.audio.x, quiet.audio.x)
    assert torch.equal(found.audio.lengths, quiet.audio.lengths)
    assert found.noise.x.shape == (40, found.noise.lengths.max())
    assert (found.noise.lengths <= found.audio.lengths).all()
    short = found.noise.lengths == 2_000
    assert 0 < short.sum() < 40
    assert not found.noise.x[short, 2_000:].any()
    whole = ~short & (found.noise.lengths == found.audio.lengths)
    assert whole.any()


def test_noise_and_speech_share_no_lengths(corpus, noises):
    found = everything(loader_of(corpus, noises)).batch
    before = found.audio.lengths.clone()
    found.noise.lengths.zero_()
    assert torch.equal(found.audio.lengths, before)
    assert torch.equal(found.noisy.lengths, before)


def test_noise_depends_on_seed_epoch_and_utterance_alone(corpus, noises):
    loader = loader_of(corpus, noises)

    def clip(loader, epoch, rows, of):
        noise = loader.load(Item(epoch, np.array(rows))).batch.noise
        place = rows.index(of)
        return noise.x[place, : noise.lengths[place]]

    alone = clip(loader, 3, [7], 7)
    assert torch.equal(clip(loader, 3, [2, 30, 7, 1], 7), alone)
    others = [
        clip(loader, 4, [7], 7),
        clip(loader_of(corpus, noises, seed=1), 3, [7], 7),
        clip(loader, 3, [8], 8),
    ]
    assert not any(torch.equal(other, alone) for other in others)


def test_long_noise_is_cropped_at_random_places(corpus, tmp_path):
    ramp = np.linspace(-0.9, 0.9, 60 * RATE)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE)
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "ramp.wav", "duration": 40.0, "offset": 10.0})
    found = everything(loader_of(corpus, noise)).batch.noise
    starts = (found.x[:, 0].numpy() + 0.9) / 1.8 * 60
    assert starts.min() >= 9.9
    assert (starts + found.lengths.numpy() / RATE).max() <= 50.1
    assert starts.max() - starts.min() > 20


def test_silent_noise_becomes_white_noise(corpus, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * RATE), RATE)
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "silence.wav", "duration": 5.0})
    found = everything(loader_of(corpus, noise)).batch.noise
    levels = torch.stack(
        [
            20 * row[:n].square().mean().sqrt().log10()
            for row, n in zip(found.x, found.lengths.tolist(), strict=True)
        ]
    )
    assert levels.min() > -91
    assert levels.max() < -45
    assert levels.std() > 5


def test_a_clip_with_a_negative_mean_is_read_once(corpus, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "low.wav", np.full(5 * RATE, -0.3) + 0.1 * np.sin(np.arange(5 * RATE)), RATE)
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "low.wav", "duration": 5.0})
    loader = loader_of(corpus, noise)
    opened = []
    monkeypatch.setattr(
        audio, "read", lambda path, *a, real=audio.read, **k: (opened.append(path), real(path, *a, **k))[1]
    )
    batch = everything(loader).batch
    assert sum(path.endswith("low.wav") for path in opened) == 40
    assert (batch.noise.x.sum(1) < 0).all()


def test_a_broken_noise_clip_is_replaced_and_told(corpus, noises, caplog):
    loader = loader_of(corpus, noises)
    found = everything(loader)
    assert len(found.batch.ids) == len(found.batch.noise.lengths) == 40
    assert 1 < len(found.bad_noise) < 40
    list(once(loader, [Item(0, np.arange(40))], torch_reader.read))
    assert caplog.text.count("broken.wav: cannot be decoded") == 1


def test_nothing_but_broken_noise_is_an_error(corpus, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "broken.wav", "duration": 1.0})
    with pytest.raises(HarkError, match=r"broken.wav: cannot be decoded .* in a row; see data.noise"):
        everything(loader_of(corpus, noise))


def test_several_manifests_keep_the_noise(corpus, noises, tmp_path):
    soundfile.write(tmp_path / "more.wav", signal_of(1.0, RATE), RATE)
    more = write(tmp_path / "more.jsonl", {"audio_filepath": "more.wav", "duration": 1.0})
    cfg = Data()
    loader = Loader(load([corpus, more], cfg), load_noise([noises], cfg), cfg, 0)
    found = loader.load(Item(0, np.array([0, 40]))).batch
    assert len(found.noise.lengths) == 2
    assert found.noise.x.any(1).all()


def test_segments_with_a_sampling_rate_load(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.arange(2 * RATE) / (4 * RATE), RATE, subtype="FLOAT")
    keys = {"audio_filepath": "a.wav", "sampling_rate": RATE, "orig_sample_rate": RATE, "duration": 0.5}
    train = write(tmp_path / "m.jsonl", *[keys | {"offset": o} for o in (0.5, 1.0, 1.5)])
    found = everything(loader_of(train)).batch
    assert found.audio.x[:, 0].tolist() == pytest.approx([0.125, 0.25, 0.375])
    assert len(set(found.ids)) == 3


# what cannot be read


def spoil(folder, utterances, bad):
    """A corpus in which `bad` files break after the manifest was checked."""
    for i in range(utterances):
        soundfile.write(folder / f"{i}.flac", signal_of(0.2, RATE), RATE)
    train = write(
        folder / "train.jsonl", *[{"audio_filepath": f"{i}.flac", "duration": 0.2} for i in range(utterances)]
    )
    loader = loader_of(train)
    for i in bad:
        (folder / f"{i}.flac").write_bytes(b"fLaC gone")
    return loader


def test_a_broken_utterance_is_left_out_counted_and_logged(tmp_path, caplog):
    loader = spoil(tmp_path, 200, [3])
    plan = plan_of(loader)
    found = take(loader, plan, 2 * plan.per_epoch)
    ids = [name for each in found for name in each.batch.ids]
    assert len(ids) == 2 * 199
    assert not any(name.endswith("/3.flac") for name in ids)
    assert sum(len(each.bad) for each in found) == 2
    assert caplog.text.count("3.flac: cannot be decoded") == 1


@pytest.mark.parametrize("harm", ["missing", "short", "nan", "empty"])
def test_all_that_can_be_wrong_with_a_file_is_left_out(tmp_path, harm):
    loader = spoil(tmp_path, 3, [])
    path = tmp_path / "1.flac"
    path.unlink()
    told = "is missing"
    if harm == "short":
        soundfile.write(path, signal_of(0.05, RATE), RATE)
        told = "gives 0.05 s instead of 0.20 s from 0.00 s on"
    if harm == "empty":
        soundfile.write(path, signal_of(0.0, RATE), RATE)
        told = "cannot be decoded"
    if harm == "nan":
        wave = signal_of(0.2, RATE)
        wave[7] = np.nan
        soundfile.write(path, wave, RATE, format="WAV", subtype="FLOAT")
        told = "holds NaN"
    found = everything(loader)
    assert len(found.batch.ids) == 2
    assert len(found.bad) == 1
    assert f"1.flac: {told}" in found.bad[0]


def test_a_batch_of_broken_utterances_is_none(tmp_path):
    loader = spoil(tmp_path, 3, [0, 1, 2])
    found = everything(loader)
    assert found.batch is None
    assert (found.seconds, found.padded, len(found.bad)) == (0.0, 0.0, 3)
    assert [each.batch for each in once(loader, [Item(0, np.arange(3))], torch_reader.read)] == [None]


def test_too_many_broken_utterances_stop_the_run(tmp_path):
    loader = spoil(tmp_path, 150, range(0, 150, 20))
    plan = plan_of(loader)
    with pytest.raises(
        HarkError, match=r"\d+ of 1\d\d utterances could not be read, more than data.max_bad=0.01"
    ):
        take(loader, plan, plan.per_epoch)
    loader.cfg.max_bad = 0.1
    assert len(take(loader, plan, plan.per_epoch)) == plan.per_epoch


# the order


@pytest.mark.parametrize(
    ("read", "workers"),
    [(torch_reader.read, 1), (torch_reader.read, 2), (pipeline.read, 0), (pipeline.read, 2)],
)
def test_readers_and_workers_give_the_same_batches(corpus, noises, read, workers):
    if read is pipeline.read and bindings.problem():
        pytest.skip(bindings.problem())
    loader = loader_of(corpus, noises)
    plan = plan_of(loader, seed=5)
    loader.cfg.workers = 0
    wanted = take(loader, plan, 2 * plan.per_epoch + 3)
    loader.cfg.workers = workers
    found = take(loader, plan, 2 * plan.per_epoch + 3, read)
    assert all(same(a, b) for a, b in zip(wanted, found, strict=True))


def test_resumes_at_any_batch(corpus, noises):
    loader = loader_of(corpus, noises, workers=0)
    wanted = take(loader, plan_of(loader), 20)
    for start in (1, 7, 19):
        found = take(loader, plan_of(loader), 20 - start, start=start)
        assert all(same(a, b) for a, b in zip(wanted[start:], found, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_one_order_whatever_their_number(corpus, world):
    loader = loader_of(corpus, workers=0)
    wanted = take(loader, plan_of(loader, group=6), 24, start=6)
    parts = [
        take(loader, plan_of(loader, group=6), 24 // world, rank=r, world=world, start=6)
        for r in range(world)
    ]
    found = [each for together in zip(*parts, strict=True) for each in together]
    assert all(same(a, b) for a, b in zip(wanted, found, strict=True))


@pytest.mark.parametrize("world", [1, 3])
def test_validation_is_one_pass_over_everything(corpus, world):
    loader = loader_of(corpus, workers=0)
    items = in_order(loader.speech.durations, *by_budget(loader.speech.durations, loader.cfg))
    parts = [
        [e.batch.ids for e in once(loader, items, torch_reader.read, rank=r, world=world)]
        for r in range(world)
    ]
    names = [name for part in parts for ids in part for name in ids]
    assert len(names) == 40
    assert set(names) == {loader.speech.utterance(i).id for i in range(40)}
    again = [e.batch.ids for e in once(loader, items, torch_reader.read, rank=0, world=world)]
    assert again == parts[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_draws_no_random_number(corpus, noises, workers):
    loader = loader_of(corpus, noises, workers=workers)
    before = torch.get_rng_state()
    take(loader, plan_of(loader), 3)
    assert torch.equal(torch.get_rng_state(), before)


def pid_after(item):
    return os.getpid()


def test_workers_outlive_the_signals_that_stop_a_run():
    results = torch_reader.read(range(40), pid_after, 1)
    worker = next(results)
    assert worker != os.getpid()
    for name in ("TERM", "INT", "USR1", "USR2"):  # from another process, as the cluster's come
        subprocess.run(["kill", f"-{name}", str(worker)], check=True)
    assert set(results) == {worker}


def doze():
    torch_reader.outlive_signals(0)
    time.sleep(60)


def test_workers_end_when_their_parent_says_so():
    process = multiprocessing.get_context("fork").Process(target=doze)
    process.start()
    while not blocks_sigterm(process.pid):
        time.sleep(0.01)
    process.terminate()
    process.join(30)
    assert process.exitcode == 0


def blocks_sigterm(pid):
    (mask,) = [
        x.split()[1] for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("SigBlk")
    ]
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1
