"""Cepstra and their deltas against torchaudio's; stacked log-mel."""

import pytest
import torch
import torchaudio

from plugins.frontends.mfcc import MFCC, deltas
from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.nn.kaldi import cosines

registry.load_plugins()


def made(name, **choices):
    config = registry.config_of("frontend", name)
    return registry.build(type(config)(**(vars(config) | choices))).eval()


def clips(*lengths):
    """A batch of noise, with noise for padding too."""
    x = 0.1 * torch.randn(len(lengths), max(lengths), generator=torch.Generator().manual_seed(0))
    return Seq(x, torch.tensor(lengths))


def reference(wave):
    """What HuBERT clusters first, of one utterance (N,) of 16-bit integers: (S, 39)."""
    cepstra = torchaudio.compliance.kaldi.mfcc(wave[None], use_energy=False).T  # (13, S)
    first = torchaudio.functional.compute_deltas(cepstra)
    return torch.cat([cepstra, first, torchaudio.functional.compute_deltas(first)]).T


def test_every_row_is_what_kaldi_and_torchaudio_say():
    audio, frontend = clips(16_000, 9_999, 2_000, 560), made("mfcc_plain")
    out = frontend(audio)
    assert frontend.dim == 39
    for row, length in enumerate(audio.lengths.tolist()):
        wanted = reference(audio.x[row, :length] * 2**15)
        assert out.lengths[row] == len(wanted)
        torch.testing.assert_close(out.x[row, : len(wanted)], wanted, rtol=1e-4, atol=2e-3)
        assert not out.x[row, len(wanted) :].any()


def test_hubert_has_the_same_but_for_the_level():
    audio = clips(16_000)
    own, theirs = made("mfcc_plain")(audio).x[0], reference(audio.x[0])
    moved = own - theirs
    torch.testing.assert_close(moved[:, 1:], torch.zeros(98, 38), rtol=0, atol=3e-3)
    assert moved[:, 0].std() < 1e-3


def test_other_numbers_of_coefficients_are_kaldis_too():
    audio = clips(8_000)
    out = made("mfcc_plain", ceps=20, bands=40, lifter=10.0)(audio).x[0, :, :20]
    wanted = torchaudio.compliance.kaldi.mfcc(
        audio.x * 2**15, num_ceps=20, num_mel_bins=40, cepstral_lifter=10.0
    )
    torch.testing.assert_close(out, wanted, rtol=1e-4, atol=2e-3)


def test_cosines_are_orthonormal():
    basis = cosines(23, 23)
    torch.testing.assert_close(basis.T @ basis, torch.eye(23), rtol=0, atol=1e-6)


def test_deltas_are_slopes():
    line = torch.arange(10.0).expand(1, 10)[..., None] * 3
    slope = deltas(line, torch.tensor([10]))[0, :, 0]
    assert torch.allclose(slope[2:-2], torch.full((6,), 3.0))
    assert slope[0] == pytest.approx(3 * (1 * 1 + 2 * 2) / 10)  # the first frame stands for those before it


def test_mfcc_is_standardised_over_the_utterance():
    audio = clips(16_000, 8_000)
    out = made("mfcc")(audio)
    for row, length in enumerate(out.lengths.tolist()):
        torch.testing.assert_close(out.x[row, :length].mean(0), torch.zeros(39), rtol=0, atol=1e-4)
        torch.testing.assert_close(out.x[row, :length].std(0), torch.ones(39), rtol=0, atol=1e-3)


def test_stacked_mel_is_log_mel_side_by_side():
    audio = clips(16_000, 8_000)
    plain, stacked = made("fbank", stack=1)(audio), made("stacked_mel")
    out = stacked(audio)
    assert (stacked.dim, stacked.hop) == (320, 640)
    assert out.lengths.tolist() == [98 // 4, 48 // 4]
    torch.testing.assert_close(out.x[0, 5], plain.x[0, 20:24].flatten())


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"ceps": 24}, "frontend.ceps=24: choose 1 to frontend.bands=23"),
        ({"lifter": 0.0}, "frontend.lifter=0"),
    ],
)
def test_values_that_cannot_be_are_refused(choices, says):
    with pytest.raises(HarkError, match=says):
        MFCC(MFCC.Config(**choices))
