import numpy as np
import pytest
import soundfile
import torch

from research.config import Data
from research.data import audio, torch_reader
from research.data.loader import Loader
from research.data.manifest import load, load_noise
from research.data.plan import Item
from research.data.stream import once
from research.errors import HarkError
from tests.sounds import RATE, everything, loader_of, signal_of, write

pytestmark = pytest.mark.usefixtures("module_cache")


def test_every_row_is_its_segment_mono_at_the_rate(mixed):
    loader = loader_of(mixed)
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
    assert found.counts["converted"] == 18
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


def test_strict_refuses_what_the_headers_did_not_show(mixed):
    cfg = Data(strict=True)
    speech = load([mixed], Data(), headers=False)
    with pytest.raises(
        HarkError, match=r"1.flac: 1 channels and 22050 Hz, data.strict=true wants 1 and 16000 Hz"
    ):
        Loader(speech, None, cfg, 0).load(Item(0, np.array([0, 1])))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_still_one_line(mixed, workers):
    speech = load([mixed], Data(), headers=False)
    loader = Loader(speech, None, Data(strict=True), 0)
    with pytest.raises(HarkError) as error:
        list(torch_reader.read([Item(0, np.array([1]))], loader.load, workers))
    assert "\n" not in str(error.value)


# noise


def test_noise_never_changes_the_speech_length(mixed, noises):
    """The clip's own length goes with the clip; speech keeps its own, and padding is never called audio."""
    loader = loader_of(mixed, noises)
    quiet, found = everything(loader_of(mixed)).batch, everything(loader).batch
    assert torch.equal(found.audio.x, quiet.audio.x)
    assert torch.equal(found.audio.lengths, quiet.audio.lengths)
    assert found.noise.x.shape == (40, found.noise.lengths.max())
    assert (found.noise.lengths <= found.audio.lengths).all()
    short = found.noise.lengths == 2_000
    assert 0 < short.sum() < 40
    assert not found.noise.x[short, 2_000:].any()
    whole = ~short & (found.noise.lengths == found.audio.lengths)
    assert whole.any()


def test_noise_and_speech_share_no_lengths(mixed, noises):
    found = everything(loader_of(mixed, noises)).batch
    before = found.audio.lengths.clone()
    found.noise.lengths.zero_()
    assert torch.equal(found.audio.lengths, before)
    assert torch.equal(found.noisy.lengths, before)


def test_noise_depends_on_seed_epoch_and_utterance_alone(mixed, noises):
    loader = loader_of(mixed, noises)

    def clip(loader, epoch, rows, of):
        noise = loader.load(Item(epoch, np.array(rows))).batch.noise
        place = rows.index(of)
        return noise.x[place, : noise.lengths[place]]

    alone = clip(loader, 3, [7], 7)
    assert torch.equal(clip(loader, 3, [2, 30, 7, 1], 7), alone)
    others = [
        clip(loader, 4, [7], 7),
        clip(loader_of(mixed, noises, seed=1), 3, [7], 7),
        clip(loader, 3, [8], 8),
    ]
    assert not any(torch.equal(other, alone) for other in others)


def test_long_noise_is_cropped_at_random_places(mixed, tmp_path):
    ramp = np.linspace(-0.9, 0.9, 60 * RATE)
    soundfile.write(tmp_path / "ramp.wav", ramp, RATE)
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "ramp.wav", "duration": 40.0, "offset": 10.0})
    found = everything(loader_of(mixed, noise)).batch.noise
    starts = (found.x[:, 0].numpy() + 0.9) / 1.8 * 60
    assert starts.min() >= 9.9
    assert (starts + found.lengths.numpy() / RATE).max() <= 50.1
    assert starts.max() - starts.min() > 20


def test_silent_noise_becomes_white_noise(mixed, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(5 * RATE), RATE)
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "silence.wav", "duration": 5.0})
    found = everything(loader_of(mixed, noise)).batch.noise
    levels = torch.stack(
        [
            20 * row[:n].square().mean().sqrt().log10()
            for row, n in zip(found.x, found.lengths.tolist(), strict=True)
        ]
    )
    assert levels.min() > -91
    assert levels.max() < -45
    assert levels.std() > 5


def test_a_clip_with_a_negative_mean_is_read_once(mixed, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "low.wav", np.full(5 * RATE, -0.3) + 0.1 * np.sin(np.arange(5 * RATE)), RATE)
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "low.wav", "duration": 5.0})
    loader = loader_of(mixed, noise)
    opened = []
    monkeypatch.setattr(
        audio, "read", lambda path, *a, real=audio.read, **k: (opened.append(path), real(path, *a, **k))[1]
    )
    batch = everything(loader).batch
    assert sum(path.endswith("low.wav") for path in opened) == 40
    assert (batch.noise.x.sum(1) < 0).all()


def test_a_broken_noise_clip_is_replaced_and_told(mixed, noises, caplog):
    loader = loader_of(mixed, noises)
    found = everything(loader)
    assert len(found.batch.ids) == len(found.batch.noise.lengths) == 40
    assert 1 < len(found.bad_noise) < 40
    list(once(loader, [Item(0, np.arange(40))], torch_reader.read))
    assert caplog.text.count("broken.wav: cannot be decoded") == 1


def test_nothing_but_broken_noise_is_an_error(mixed, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    noise = write(tmp_path / "n.jsonl", {"audio_filepath": "broken.wav", "duration": 1.0})
    with pytest.raises(HarkError, match=r"broken.wav: cannot be decoded .* in a row; see data.noise"):
        everything(loader_of(mixed, noise))


def test_several_manifests_keep_the_noise(mixed, noises, tmp_path):
    soundfile.write(tmp_path / "more.wav", signal_of(1.0, RATE), RATE)
    more = write(tmp_path / "more.jsonl", {"audio_filepath": "more.wav", "duration": 1.0})
    cfg = Data()
    loader = Loader(load([mixed, more], cfg), load_noise([noises], cfg), cfg, 0)
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
