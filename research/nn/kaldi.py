"""Log-mel energies as Kaldi's `compute-fbank-feats` defines them, batched."""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

LOWEST = 20.0  # Hz: where the first triangle begins
SCALE = 2.0**15  # Kaldi reads 16-bit integers
FLOOR = 2.0**-23  # least energy


def povey_window(size: int) -> Tensor:
    """A Hann window to the power of 0.85: (W,)."""
    hann = torch.hann_window(size, periodic=False, dtype=torch.float64, device="cpu")
    return hann.pow(0.85).float()


def kaldi_filters(bands: int, n_fft: int, sample_rate: int) -> Tensor:
    """Triangles that are straight on the mel scale, up to half the sample rate: (n_fft // 2 + 1, bands)."""

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * (1.0 + hz / 700.0).log()

    ends = mel(torch.tensor([LOWEST, sample_rate / 2], dtype=torch.float64, device="cpu"))
    edges = ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, bands + 2, dtype=torch.float64, device="cpu")
    hz = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64, device="cpu")
    bins, width = mel(hz)[:, None], edges[1] - edges[0]
    rising, falling = (bins - edges[:-2]) / width, (edges[2:] - bins) / width  # (bins, bands)
    return torch.minimum(rising, falling).clamp(min=0).float()


def energies(wave: Tensor, window: Tensor, hop: int, n_fft: int, preemphasis: float) -> Tensor:
    """Power spectra of whole windows, each without its mean: (B, N) -> (B, (N - W) // hop + 1, n_fft // 2 + 1)."""
    x = wave.unfold(1, len(window), hop)  # (B, S, W)
    x = x - x.mean(-1, keepdim=True)
    x = x - preemphasis * torch.cat([x[..., :1], x[..., :-1]], -1)
    spectrum = torch.fft.rfft(x * window, n=n_fft)
    return spectrum.real.square() + spectrum.imag.square()


def at_least(wave: Tensor, size: int) -> Tensor:
    """Zeros after the end of an audio that is shorter than `size`: (B, N) -> (B, N')."""
    return F.pad(wave, (0, max(0, size - wave.size(1))))


def standardize(x: Tensor, inside: Tensor, dims: tuple[int, ...], eps: float = 1e-7) -> Tensor:
    """Zero mean and unit (unbiased) variance over the valid frames of `dims`; zeros elsewhere.

    `x` (B, S, F), `inside` (B, S, 1) is 1 on valid frames. One single frame gives zeros.
    """
    inside = inside.expand_as(x)
    count = inside.sum(dims, keepdim=True)
    centred = (x - (x * inside).sum(dims, keepdim=True) / count.clamp(min=1)) * inside
    variance = centred.square().sum(dims, keepdim=True) / (count - 1).clamp(min=1)
    return centred * (variance + eps).rsqrt()


def cosines(bands: int, ceps: int) -> Tensor:
    """The first basis vectors of the orthonormal DCT-II: (bands, ceps)."""
    place = (torch.arange(bands, dtype=torch.float64, device="cpu")[:, None] + 0.5) / bands
    basis = (pi * place * torch.arange(ceps, dtype=torch.float64, device="cpu")).cos() * (2 / bands) ** 0.5
    basis[:, 0] /= 2**0.5
    return basis.float()
