"""Bands: what passes, what falls by how much, and where in time it stays."""

import math

import pytest
import torch
from scipy import signal

from plugins.augmentations.band_limit import BandLimit
from research import registry
from research.contracts import Batch, Seq
from research.errors import HarkError
from tests.batches import LENGTHS, run, speech

registry.load_plugins()
RATE = 16_000
TELEPHONE = {"prob": 1.0, "low": (300.0, 300.0), "high": (3400.0, 3400.0)}


def level(hz, **choices):
    """How loud a tone is afterwards, dB."""
    x = torch.sin(2 * torch.pi * hz * torch.arange(RATE) / RATE)
    out = run(BandLimit, Batch.clean(Seq(x[None], torch.tensor([RATE]))), **choices).noisy.x[0]
    middle = slice(RATE // 4, 3 * RATE // 4)
    return float(10 * torch.log10(out[middle].square().mean() / x[middle].square().mean()))


@pytest.mark.parametrize("hz", [100, 250, 300, 350, 1000, 3000, 3400, 3800, 5000])
def test_a_tone_is_as_loud_as_butterworths_filters_leave_it(hz):
    edges = [
        signal.butter(8, 300, "highpass", analog=True),
        signal.butter(8, 3400, "lowpass", analog=True),
    ]
    gain = abs(signal.freqs(*edges[0], worN=[hz])[1][0] * signal.freqs(*edges[1], worN=[hz])[1][0])
    assert level(hz, **TELEPHONE) == pytest.approx(20 * math.log10(gain), abs=0.1)


def test_edges_that_cut_nothing_leave_everything():
    given = speech()
    out = run(BandLimit, given, prob=1.0, low=(0.0, 0.0), high=(8000.0, 8000.0))
    torch.testing.assert_close(out.noisy.x, given.audio.x, rtol=0, atol=1e-6)


def test_nothing_moves_in_time():
    given = speech()
    out = run(BandLimit, given, **TELEPHONE)
    for row in range(4):
        spectra = [torch.fft.rfft(x[row]) for x in (given.audio.x, out.noisy.x)]
        alike = torch.fft.irfft(spectra[0].conj() * spectra[1])
        assert alike.argmax() == 0


def test_each_row_draws_edges_of_its_own():
    augment = BandLimit(BandLimit.Config())
    torch.manual_seed(0)
    gain = augment.gain(500, 4096, torch.device("cpu"))  # (K, bins)
    hz = torch.fft.rfftfreq(4096, 1 / RATE)
    passed = gain > 0.5**0.5 * 0.999
    lowest = torch.where(passed, hz, 9e9).amin(1)
    highest = torch.where(passed, hz, 0.0).amax(1)
    assert lowest.min() < 10
    assert 380 < lowest.max() < 405
    assert 1990 < highest.min() < 2100
    assert 6900 < highest.max() < 7005


def test_a_row_alone_equals_the_row_in_a_batch_of_longer_ones():
    given = speech()
    together = run(BandLimit, given, **TELEPHONE).noisy
    alone = Batch.clean(Seq(given.audio.x[3:, :20_000], LENGTHS[3:]))
    own = run(BandLimit, alone, **TELEPHONE).noisy
    torch.testing.assert_close(together.x[3, :20_000], own.x[0], rtol=0, atol=1e-6)


def test_what_is_in_the_padding_is_neither_heard_nor_changed():
    given = speech()
    clean = run(BandLimit, given, **TELEPHONE).noisy.x
    given.audio.x[~given.audio.valid] = 9.0
    out = run(BandLimit, given, **TELEPHONE).noisy
    assert torch.equal(out.x[out.valid], clean[out.valid])
    assert (out.x[~out.valid] == 9.0).all()


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"prob": 1.5}, "augmentation.prob=1.5"),
        ({"low": (500.0, 100.0)}, r"augmentation.low=\[500.0,100.0\]"),
        ({"low": (0.0, 2000.0)}, "below every upper one"),
        ({"order": 0}, "augmentation.order=0"),
    ],
)
def test_values_that_cannot_be_are_refused(choices, says):
    with pytest.raises(HarkError, match=says):
        BandLimit(BandLimit.Config(**choices))


def test_what_rings_at_the_end_is_not_heard_at_the_beginning():
    x = torch.zeros(1, 2**14)
    x[0, -1] = 1.0
    out = run(BandLimit, Batch.clean(Seq(x, torch.tensor([2**14]))), **TELEPHONE).noisy.x[0]
    assert out[-100:].abs().max() > 0.1
    assert out[:100].abs().max() < 1e-5
