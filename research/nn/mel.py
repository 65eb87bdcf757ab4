"""Log-mel parts, as librosa and NeMo define them."""

import math
from enum import Enum

import torch
from torch import Tensor

_BREAK = 1000.0  # Hz: the Slaney scale is linear below, logarithmic above
_LINEAR = 3.0 / 200.0  # mel per Hz
_LOG = 27.0 / math.log(6.4)  # mel per unit of log Hz


class Normalize(Enum):
    """What the mean and deviation of an utterance are taken over."""

    per_feature = "per_feature"  # time
    all_features = "all_features"  # time and mel bands
    none = "none"


def hz_to_mel(hz: Tensor) -> Tensor:
    """Slaney's scale (Auditory Toolbox, 1998), elementwise."""
    return torch.where(
        hz < _BREAK, hz * _LINEAR, _BREAK * _LINEAR + (hz.clamp(min=_BREAK) / _BREAK).log() * _LOG
    )


def mel_to_hz(mel: Tensor) -> Tensor:
    top = _BREAK * _LINEAR
    return torch.where(mel < top, mel / _LINEAR, _BREAK * ((mel.clamp(min=top) - top) / _LOG).exp())


def mel_filters(dim: int, n_fft: int, sample_rate: int) -> Tensor:
    """Triangles of equal area from 0 Hz to half the sample rate: (n_fft // 2 + 1, dim), fp32 of fp64 maths."""
    top = hz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64, device="cpu"))
    edges = mel_to_hz(torch.linspace(0, 1, dim + 2, dtype=torch.float64, device="cpu") * top)  # (dim + 2,) Hz
    bins = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64, device="cpu")[:, None]
    width = edges.diff()  # (dim + 1,)
    rising = (bins - edges[:-2]) / width[:-1]  # (bins, dim)
    falling = (edges[2:] - bins) / width[1:]
    height = 2.0 / (edges[2:] - edges[:-2])  # (dim,)
    shape = torch.minimum(rising, falling).clamp(min=0).float()  # librosa rounds here, then again
    return (shape.double() * height).float()


def preemphasis(wave: Tensor, factor: float) -> Tensor:
    """`x[t] - factor * x[t - 1]`, the first sample kept: (B, N) -> (B, N)."""
    sharper = wave.clone()
    sharper[:, 1:].sub_(wave[:, :-1], alpha=factor)
    return sharper


def standardize(x: Tensor, valid: Tensor, dims: tuple[int, ...], eps: float = 1e-5) -> Tensor:
    """Zero mean and unit (unbiased) deviation over the valid frames of `dims`; zeros elsewhere.

    `x` (B, S, F), `valid` bool (B, S). One single frame gives zeros.
    """
    inside = valid[..., None].to(x.dtype).expand_as(x)  # (B, S, F)
    count = inside.sum(dims, keepdim=True)
    mean = (x * inside).sum(dims, keepdim=True) / count.clamp(min=1)
    centred = (x - mean) * inside
    deviation = (centred.square().sum(dims, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    return centred / (deviation + eps)
