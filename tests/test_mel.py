"""The log-mel frontend: what NeMo computes, for any padding, without touching what it was given."""

import dataclasses

import pytest
import torch
import torchaudio

from research import registry
from research.contracts import Seq
from research.nn.functional import stack
from research.nn.mel import Normalize, mel_filters

registry.load_plugins()
PLAIN = registry.config_of("frontend", "log_mel")


def log_mel(normalize="per_feature", **changes):
    return registry.build(dataclasses.replace(PLAIN, normalize=Normalize[normalize], **changes)).eval()


def clips(*lengths, seed=0, scale=1.0):
    """A batch of noise, with noise for padding too."""
    g = torch.Generator().manual_seed(seed)
    return Seq(torch.randn(len(lengths), max(lengths), generator=g) * scale, torch.tensor(lengths))


def reference(wave):
    """One utterance (N,) by torch.stft and torchaudio's filters: (L, 80), before normalisation."""
    wave = torch.cat([wave[:1], wave[1:] - 0.97 * wave[:-1]])
    spectrum = torch.stft(
        wave,
        512,
        hop_length=160,
        win_length=400,
        window=torch.hann_window(400, periodic=False),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    filters = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 80, 16_000, "slaney", "slaney")
    energy = spectrum.abs().square().T @ filters  # (S, 80)
    return (energy[: len(wave) // 160] + 2**-24).log()


def test_filters_are_slaneys():
    for dim, n_fft, rate in ((80, 512, 16_000), (128, 512, 16_000), (40, 400, 8_000)):
        expected = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, rate / 2, dim, rate, "slaney", "slaney"
        )
        torch.testing.assert_close(mel_filters(dim, n_fft, rate), expected, rtol=0, atol=1e-6)


def test_every_row_is_what_stft_says():
    audio = clips(16_000, 7_777, 1_601)
    feats = log_mel(normalize="none")(audio)
    assert feats.lengths.tolist() == [100, 48, 10]
    for x, row, length in zip(feats.x, audio.x, audio.lengths, strict=True):
        expected = reference(row[:length])
        torch.testing.assert_close(x[: len(expected)], expected, rtol=0, atol=2e-4)
        assert not x[len(expected) :].any()


def test_normalisation_is_over_the_valid_frames():
    audio = clips(16_000, 7_777)
    plain, per_feature = log_mel(normalize="none")(audio), log_mel()(audio)
    total = log_mel(normalize="all_features")(audio)
    for i, length in enumerate(plain.lengths):
        x = plain.x[i, :length]
        expected = (x - x.mean(0)) / (x.std(0) + 1e-5)
        torch.testing.assert_close(per_feature.x[i, :length], expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(total.x[i, :length], (x - x.mean()) / (x.std() + 1e-5), rtol=0, atol=1e-4)
        assert not per_feature.x[i, length:].any()
        assert not total.x[i, length:].any()


@pytest.mark.parametrize("normalize", ["per_feature", "all_features", "none"])
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(normalize, training):
    audio = clips(16_000, 9_999, 1_600)
    frontend = log_mel(normalize=normalize, dither=1e-2).train(training)
    together = frontend(audio)
    for i, n in enumerate(audio.lengths):
        alone = frontend(Seq(audio.x[i : i + 1, :n], audio.lengths[i : i + 1]))
        torch.testing.assert_close(together.x[i, : n // 160], alone.x[0], rtol=0, atol=2e-4)


@pytest.mark.parametrize("length", [1, 159, 160, 200, 400, 1600])
def test_shortest_clips_are_finite(length):
    for normalize in ("per_feature", "all_features"):
        feats = log_mel(normalize=normalize)(clips(length))
        assert feats.lengths.tolist() == [length // 160]
        assert feats.x.shape == (1, max(1, length // 160), 80)
        assert feats.x.isfinite().all()


def test_silence_is_finite():
    assert log_mel()(Seq(torch.zeros(1, 16_000), torch.tensor([16_000]))).x.isfinite().all()


def test_defect_24_the_callers_audio_is_left_alone():
    audio = clips(16_000, 8_000)
    before = audio.x.clone()
    log_mel(dither=1.0).train()(audio)
    assert torch.equal(audio.x, before)


def test_defect_23_the_same_clip_has_the_same_tokens_every_time():
    """In near-silence dither decides the tokens: it has to be the same each time, in every dtype."""
    frontend = log_mel().train()
    quantizer = registry.build(registry.config_of("quantizer", "random_projection"), dim_in=640)
    audio = clips(48_000, 32_000, scale=5e-6)

    def tokens(row):
        feats = frontend(Seq(audio.x[row : row + 1], audio.lengths[row : row + 1]))
        return quantizer(stack(feats.x, 8)).ids

    for row in range(2):
        first = tokens(row)
        assert torch.equal(tokens(row), first)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(tokens(row), first)


def test_dither_is_seeded_and_only_for_training():
    audio = Seq(torch.zeros(2, 100_000), torch.tensor([100_000, 50_000]))
    same, other = log_mel(normalize="none").train(), log_mel(normalize="none", dither_seed=1).train()
    assert torch.equal(same(audio).x, log_mel(normalize="none").train()(audio).x)
    assert not torch.equal(same(audio).x, other(audio).x)
    assert torch.equal(same.eval()(audio).x, other.eval()(audio).x)


def test_dither_takes_nothing_from_the_global_generator():
    frontend, audio = log_mel().train(), clips(16_000)
    before = torch.get_rng_state()
    frontend(audio)
    assert torch.equal(torch.get_rng_state(), before)


def test_fp32_without_gradient_under_autocast():
    audio = clips(16_000)
    audio.x.requires_grad_()
    frontend = log_mel()
    expected = frontend(audio).x
    with torch.autocast("cpu", torch.bfloat16):
        feats = frontend(audio).x
    assert feats.dtype is torch.float32
    assert not feats.requires_grad
    assert torch.equal(feats, expected)


def test_nothing_is_saved():
    assert not log_mel().state_dict()


def test_preset_with_128_bands():
    frontend = registry.build(registry.config_of("frontend", "log_mel_128"))
    assert (frontend.dim, frontend.hop, frontend.sample_rate) == (128, 160, 16_000)
    assert frontend(clips(1_600)).x.shape == (1, 10, 128)
