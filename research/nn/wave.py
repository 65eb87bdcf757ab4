"""Strided 1-D convolutions on a waveform (wav2vec 2.0, arXiv 2006.11477, section 2)."""

from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Seq
from research.nn.norm import GroupNorm, LayerNorm
from research.nn.strided import strided


class FeatureNorm(Enum):
    """What is normalised between the convolutions."""

    group = "group"  # every channel of the first convolution over the frames of an utterance
    layer = "layer"  # every frame of every convolution


class ConvLayer(nn.Module):
    """Convolution, norm if there is one, GELU. Frames that read past the end of a row are no frames."""

    def __init__(
        self, dim_in: int, dim: int, kernel: int, stride: int, *, bias: bool, norm: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim_in, dim, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = norm  # (B, T, C), bool (B, T) -> (B, T, C)

    def forward(self, x: Seq) -> Seq:  # (B, T, C) -> (B, T', C')
        lengths = frames(x.lengths, self.conv.kernel_size[0], self.conv.stride[0])
        y = Seq(strided(x.x, self.conv.weight, self.conv.bias, self.conv.stride[0]), lengths)  # (B, T', C')
        return y.replace(F.gelu(y.x if self.norm is None else self.norm(y.x, y.valid)))


def frames(lengths: Tensor, kernel: int, stride: int) -> Tensor:
    """How many whole windows there are in rows of so many frames: (B,) -> (B,)."""
    return ((lengths - kernel).div(stride, rounding_mode="floor") + 1).clamp(min=0)


def feature_norm(kind: FeatureNorm, dim: int, index: int) -> nn.Module | None:
    """Give the norm of convolution number `index`."""
    if kind is FeatureNorm.layer:
        return LayerNorm(dim)
    return GroupNorm(dim, groups=dim) if index == 0 else None


def standardize_wave(audio: Seq) -> Tensor:
    """Zero mean and unit variance over the samples of each row, silence after them: (B, N) -> (B, N), fp32."""
    inside = audio.valid  # (B, N)
    count = inside.sum(1, keepdim=True).clamp(min=1)
    wave = audio.x.float() * inside
    wave = (wave - wave.sum(1, keepdim=True) / count) * inside
    variance = wave.square().sum(1, keepdim=True) / count
    return wave * torch.rsqrt(variance + 1e-7)
