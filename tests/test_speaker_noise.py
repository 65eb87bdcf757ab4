"""Noise and speakers are mixed at their level, in their place, and nowhere else."""

import pytest
import torch

from plugins.augmentations.speaker_noise import Over, SpeakerNoise
from research.contracts import Batch, Seq
from research.errors import HarkError

LENGTHS = torch.tensor([32_000, 48_000, 40_000, 20_000])


def batch(noise_lengths=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    audio = torch.randn(4, 48_000, generator=g) * 0.1
    audio[torch.arange(48_000) >= LENGTHS[:, None]] = 0
    made = Batch.clean(Seq(audio, LENGTHS.clone()))
    if noise_lengths is not None:
        noise = torch.randn(4, max(noise_lengths), generator=g)
        made.noise = Seq(noise, torch.tensor(noise_lengths))
    return made


def run(given, seed=0, **choices):
    torch.manual_seed(seed)
    return SpeakerNoise(SpeakerNoise.Config(**choices))(given)


def snr(clean, noisy, where):
    return 10 * torch.log10(clean[where].square().sum() / (noisy - clean)[where].square().sum())


def test_rows_that_are_not_chosen_are_bit_identical_even_with_a_noise_corpus():
    given = batch([16_000] * 4)
    assert run(given, prob=0.0).noisy is given.audio
    out = run(given, seed=1, prob=0.5)
    rest = [row for row in range(4) if row not in out.changed.tolist()]
    assert 0 < len(rest) < 4
    assert torch.equal(out.noisy.x[rest], given.audio.x[rest])
    assert not torch.equal(out.noisy.x[out.changed], given.audio.x[out.changed])


def test_short_noise_does_not_shorten_the_speech():
    given = batch([500, 16_000, 40_000, 20_000])
    out = run(given, prob=1.0, noise_ratio=1.0)
    assert torch.equal(out.noisy.lengths, LENGTHS)
    assert torch.equal(out.audio.lengths, LENGTHS)
    for row in range(4):  # the stretch is full although the clip is short: it repeats
        changed = (out.noisy.x[row] != out.audio.x[row]).sum()
        assert changed > 0.49 * LENGTHS[row]


def test_clean_audio_and_its_lengths_are_never_written():
    given = batch()
    audio, lengths = given.audio.x.clone(), given.audio.lengths.clone()
    run(given, prob=1.0)
    assert torch.equal(given.audio.x, audio)
    assert torch.equal(given.audio.lengths, lengths)


@pytest.mark.parametrize("noise_ratio", [0.0, 1.0])
@pytest.mark.parametrize("level", [-5.0, 20.0])
def test_the_ratio_holds_inside_the_mixed_stretch(noise_ratio, level):
    given = batch([30_000] * 4)
    choices = {"speech_snr": (level, level), "noise_snr": (level, level)}
    out = run(given, prob=1.0, noise_ratio=noise_ratio, **choices)
    for row in range(4):
        where = out.noisy.x[row] != given.audio.x[row]
        assert snr(given.audio.x[row], out.noisy.x[row], where) == pytest.approx(level, abs=0.05)


def test_over_the_clip_is_three_db_lower_inside():
    given = batch()
    out = run(given, prob=1.0, speech_snr=(0.0, 0.0), snr_over=Over.clip)
    for row in range(4):
        where = out.noisy.x[row] != given.audio.x[row]
        assert snr(given.audio.x[row], out.noisy.x[row], where) == pytest.approx(-3.0, abs=0.3)


def test_nothing_is_mixed_into_padding():
    given = batch([48_000] * 4)
    out = run(given, prob=1.0, segments=(1, 5), mix_rate=(0.1, 1.0), speakers=(1, 3))
    assert (out.noisy.x[torch.arange(48_000) >= LENGTHS[:, None]] == 0).all()


@pytest.mark.parametrize("segments", [1, 4])
def test_stretches_do_not_overlap_and_have_their_share(segments):
    augment = SpeakerNoise(SpeakerNoise.Config(segments=(segments, segments), mix_rate=(0.4, 0.4)))
    torch.manual_seed(0)
    lengths = torch.randint(1, 50_000, (200,))
    starts, sizes = augment.stretches(lengths)
    total = torch.minimum((lengths * torch.tensor(0.4)).long().clamp(min=1), lengths)
    assert torch.equal(sizes.sum(1), total)
    assert (sizes >= 0).all()
    assert (starts >= 0).all()
    ends = starts + sizes
    assert (ends.max(1).values <= lengths).all()
    assert (starts[:, 1:] >= ends[:, :-1]).all()


def test_without_a_noise_corpus_the_other_rows_speak():
    given = batch()
    given.audio.x[:] = torch.arange(1.0, 5.0)[:, None] * (given.audio.x != 0)
    out = run(given, prob=1.0, noise_ratio=1.0)
    assert out.changed.tolist() == [0, 1, 2, 3]
    added = out.noisy.x - out.audio.x
    assert (added.abs().amax(1) > 0).all()


def test_a_row_is_never_its_own_interferer():
    given = batch()
    x = torch.zeros_like(given.audio.x)
    for row in range(4):  # a sine of its own for each row
        x[row] = torch.sin(torch.arange(48_000) * 2 * torch.pi * (row + 1) / 50)
    given = Batch.clean(Seq(x, torch.full((4,), 48_000)))
    spectrum = run(given, prob=1.0, noise_ratio=0.0, mix_rate=(1.0, 1.0)).noisy.x - x
    strongest = torch.fft.rfft(spectrum).abs().argmax(1)
    own = torch.fft.rfft(x).abs().argmax(1)
    assert (strongest != own).all()


def test_one_row_alone_without_noise_stays_clean():
    lone = Batch.clean(Seq(torch.randn(1, 1000), torch.tensor([1000])))
    assert run(lone, prob=1.0).noisy is lone.audio


def test_silence_and_empty_noise_give_no_nan():
    silent = Batch.clean(Seq(torch.zeros(3, 1000), torch.tensor([1000, 1, 0])))
    silent.noise = Seq(torch.zeros(3, 10), torch.tensor([10, 0, 10]))
    assert torch.isfinite(run(silent, prob=1.0).noisy.x).all()


def test_the_same_seed_gives_the_same_noise():
    given = batch([16_000] * 4)
    assert torch.equal(run(given, seed=7).noisy.x, run(given, seed=7).noisy.x)


def test_a_range_upside_down_is_refused():
    with pytest.raises(HarkError, match=r"augmentation.mix_rate=\[0.8,0.2\]"):
        SpeakerNoise(SpeakerNoise.Config(mix_rate=(0.8, 0.2)))
