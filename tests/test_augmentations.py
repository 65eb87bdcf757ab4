"""Noise, speed and reverberation: levels, pitch and alignment are what was asked for."""

import json

import numpy as np
import pytest
import soundfile
import torch

from plugins.augmentations.noise import Noise
from plugins.augmentations.reverb import Reverb
from plugins.augmentations.speed import Speed
from research.contracts import Batch, Seq
from research.errors import HarkError
from tests.batches import LENGTHS, run, speech

RATE = 16_000


def tone(hz, seconds=2.0):
    x = torch.sin(2 * torch.pi * hz * torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE).float()
    return Batch.clean(Seq(x[None], torch.tensor([x.numel()])))


def spectrum(heard):
    """Level of every frequency in dB, and the frequencies in Hz, of the middle of a tone."""
    x = heard.x[0, 2000 : int(heard.lengths[0]) - 2000].double()
    x = x * torch.kaiser_window(len(x), False, 20.0, dtype=torch.float64)
    level = torch.fft.rfft(x).abs()
    reference = torch.kaiser_window(len(x), False, 20.0, dtype=torch.float64).sum() / 2
    return 20 * torch.log10(level / reference + 1e-12), torch.arange(len(level)) * RATE / len(x)


@pytest.mark.parametrize("level", [-5.0, 0.0, 15.0])
@pytest.mark.parametrize("noise_lengths", [[48_000] * 4, [500, 16_000, 40_000, 1]])
def test_noise_has_its_level_over_the_whole_utterance(level, noise_lengths):
    given = speech(noise_lengths)
    out = run(Noise, given, prob=1.0, snr=(level, level))
    added = out.noisy.x - given.audio.x
    ratio = 10 * torch.log10(given.audio.x.square().sum(1) / added.square().sum(1))
    torch.testing.assert_close(ratio, torch.full((4,), level), atol=0.05, rtol=0)
    assert (added[~given.audio.valid] == 0).all()
    assert out.changed.tolist() == [0, 1, 2, 3]


def test_levels_are_drawn_from_the_range_row_by_row():
    given = speech([48_000] * 4)
    drawn = []
    for seed in range(50):
        added = run(Noise, given, seed, prob=1.0).noisy.x - given.audio.x
        drawn.append(10 * torch.log10(given.audio.x.square().sum(1) / added.square().sum(1)))
    ratios = torch.stack(drawn)
    assert ratios.min() > -0.1
    assert ratios.max() < 15.1
    assert ratios.std(0).min() > 3  # 4.3 when uniform
    assert (ratios.std(1) > 0.1).all()


def test_short_noise_repeats_from_its_start():
    given = speech([500] * 4)
    added = run(Noise, given, prob=1.0).noisy.x - given.audio.x
    torch.testing.assert_close(added[0, :500], added[0, 500:1000], atol=1e-6, rtol=0)


@pytest.mark.parametrize("cls", [Noise, Speed, Reverb])
def test_rows_that_are_not_chosen_stay_bit_identical_and_are_not_listed(cls):
    given = speech([16_000] * 4)
    assert run(cls, given, prob=0.0).noisy is given.audio
    out = run(cls, given, seed=1, prob=0.5)
    listed = out.changed.tolist()
    assert 0 < len(listed) < 4
    for row, length in enumerate(LENGTHS.tolist()):
        same = torch.equal(out.noisy.x[row, : out.noisy.lengths[row]], given.audio.x[row, :length])
        assert same == (row not in listed)


def test_without_a_clip_of_noise_a_batch_stays_as_it_is():
    given = speech()
    assert run(Noise, given, prob=1.0) is given


@pytest.mark.parametrize("factor", [0.9, 0.95, 0.975, 1.025, 1.05, 1.1])
@pytest.mark.parametrize("hz", [220.0, 3000.0, 6000.0])
def test_speed_moves_a_tone_by_the_factor_and_adds_no_other(factor, hz):
    given = tone(hz)
    heard = run(Speed, given, prob=1.0, factors=[factor]).noisy
    assert int(heard.lengths[0]) == -(-32_000 * 1000 // round(1000 * factor))
    level, frequency = spectrum(heard)
    assert frequency[level.argmax()] == pytest.approx(hz * factor, abs=1.0)
    assert level.max() == pytest.approx(0.0, abs=1.0)
    assert level[(frequency - hz * factor).abs() > 30].max() < -80


@pytest.mark.parametrize("factor", [1.05, 1.1])
def test_what_would_pass_the_nyquist_frequency_does_not_alias(factor):
    level, _ = spectrum(run(Speed, tone(7_900.0), prob=1.0, factors=[factor]).noisy)
    assert level.max() < -60


def test_a_row_sped_alone_equals_the_row_in_a_batch_of_longer_ones():
    given = speech()
    given.audio.x[~given.audio.valid] = 9.0  # what is in the padding is not heard
    together = run(Speed, given, prob=1.0, factors=[1.05]).noisy
    alone = Batch.clean(Seq(given.audio.x[3:, :20_000], LENGTHS[3:]))
    own = run(Speed, alone, prob=1.0, factors=[1.05]).noisy
    assert together.lengths[3] == own.lengths[0]
    torch.testing.assert_close(together.x[3, : own.x.size(1)], own.x[0])
    assert (together.x[~together.valid] == 0).all()
    assert together.x.size(1) == together.lengths.max()


def test_each_factor_is_drawn_and_rows_at_their_own_speed_stay():
    given, ratios = speech(), set()
    for seed in range(40):
        out = run(Speed, given, seed, prob=1.0)
        moved = (out.noisy.lengths != LENGTHS).nonzero()[:, 0].tolist()
        assert out.changed.tolist() == moved
        ratios |= {round(float(r), 3) for r in LENGTHS / out.noisy.lengths}
    assert ratios == {0.95, 0.975, 1.0, 1.025, 1.05}


def test_reverberation_keeps_energy_length_and_alignment():
    given = speech()
    out = run(Reverb, given, prob=1.0, ratio=(3.0, 3.0))
    assert torch.equal(out.noisy.lengths, LENGTHS)
    torch.testing.assert_close(out.noisy.x.square().sum(1), given.audio.x.square().sum(1), rtol=1e-4, atol=0)
    assert (out.noisy.x[~given.audio.valid] == 0).all()
    for row in range(4):
        alike = torch.fft.irfft(torch.fft.rfft(given.audio.x[row]).conj() * torch.fft.rfft(out.noisy.x[row]))
        assert alike.argmax() == 0


def test_reverberation_is_that_of_the_direct_convolution(tmp_path):
    response = np.concatenate([np.zeros(700), [0.8], 0.1 * np.random.default_rng(0).standard_normal(300)])
    soundfile.write(tmp_path / "room.wav", response, RATE, subtype="FLOAT")
    given = speech()
    out = run(Reverb, given, prob=1.0, files=[str(tmp_path / "room.wav")]).noisy.x
    for row, length in enumerate(LENGTHS.tolist()):
        expected = np.convolve(given.audio.x[row, :length].double().numpy(), response[700:])[:length]
        expected *= np.sqrt(given.audio.x[row].double().square().sum().item() / (expected**2).sum())
        np.testing.assert_allclose(out[row, :length].numpy(), expected, atol=1e-5)


def test_a_made_up_response_decays_by_60_db_in_its_time():
    torch.manual_seed(0)
    made = Reverb(Reverb.Config(t60=(0.4, 0.4), ratio=(6.0, 6.0))).draw(2000, torch.device("cpu"))  # (K, L)
    assert (made[:, 0] == 1).all()
    torch.testing.assert_close(made[:, 1:].square().sum(1), torch.full((2000,), 10**-0.6))
    power = 10 * torch.log10(made[:, 1:].square().mean(0).unflatten(0, (-1, 79))[:81].mean(1))
    fall = (power[0] - power[-1]) / (80 * 79 / RATE)  # dB per second
    assert fall == pytest.approx(60 / 0.4, rel=0.02)


def test_responses_come_from_a_manifest_at_any_rate_and_channel_count(tmp_path):
    clip = np.zeros((800, 2))
    clip[100] = 0.5
    soundfile.write(tmp_path / "a.wav", clip, 8000)
    soundfile.write(tmp_path / "b.wav", clip[:, 0], RATE)
    listed = [{"audio_filepath": "a.wav", "duration": 0.1}, {"audio_filepath": str(tmp_path / "b.wav")}]
    (tmp_path / "rooms.jsonl").write_text("\n".join(map(json.dumps, listed)) + "\n")
    bank = Reverb(Reverb.Config(files=[str(tmp_path / "rooms.jsonl")], seconds=0.02)).responses
    assert bank.shape == (2, 320)
    assert (bank.argmax(1) == 0).all()


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.wav", None, r"none.wav cannot be read"),
        ("none.jsonl", None, r"none.jsonl cannot be read as a manifest"),
        ("bad.jsonl", '{"audio_filepath": "a.wav"}\n{"path": 1}\n', r"bad.jsonl:2: is no JSON object with"),
        ("empty.jsonl", "\n", "empty.jsonl lists no response"),
        ("bad.wav", "hello", "bad.wav cannot be read"),
    ],
)
def test_files_that_cannot_be_used_are_told(tmp_path, name, text, says):
    if text is not None:
        (tmp_path / name).write_text(text)
        soundfile.write(tmp_path / "a.wav", np.ones(10), RATE)
    with pytest.raises(HarkError, match=says):
        Reverb(Reverb.Config(files=[str(tmp_path / name)]))


def test_a_silent_response_is_refused(tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), RATE)
    with pytest.raises(HarkError, match=r"silent.wav is silent"):
        Reverb(Reverb.Config(files=[str(tmp_path / "silent.wav")]))


@pytest.mark.parametrize(
    ("cls", "choices", "says"),
    [
        (Noise, {"prob": 1.5}, "augmentation.prob=1.5"),
        (Noise, {"snr": (5.0, 0.0)}, r"augmentation.snr=\[5.0,0.0\]"),
        (Noise, {"snr": (5.0,)}, r"augmentation.snr=\[5.0\]: give two numbers"),
        (Speed, {"factors": []}, r"augmentation.factors=\[\]"),
        (Speed, {"factors": [5.0]}, r"augmentation.factors=\[5.0\]"),
        (Reverb, {"t60": (0.0, 1.0)}, "augmentation.t60"),
    ],
)
def test_values_that_cannot_be_are_refused(cls, choices, says):
    with pytest.raises(HarkError, match=says):
        cls(cls.Config(**choices))
