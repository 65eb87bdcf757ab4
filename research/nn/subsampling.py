"""2-D convolutions that halve the frame rate (and the frequency axis) log2(stride) times."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Seq
from research.nn.linear import Linear


def silence_after(x: Tensor, lengths: Tensor) -> None:
    """Zero the first frame after the end of each row, in place: x (B, C, T, F), lengths (B,).

    It is the only padding that a 3-wide convolution of stride 2 reads for a valid frame. Meant for what a ReLU reads
    next: zeros pass no gradient through it, so that autograd has nothing to record.
    """
    rows = (lengths < x.size(2)).nonzero()[:, 0]  # (R,)
    ends = lengths[rows].to(x.device, non_blocking=True)
    with torch.no_grad():
        x[rows.to(x.device, non_blocking=True), :, ends] = 0


class _ReLU(torch.autograd.Function):
    """ReLU in place, and its gradient in place too: these are the largest tensors there are.

    What reads it, a convolution or a linear layer, has made the gradient for nobody else.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        y = F.relu_(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=grad)
        return grad


class Striding(nn.Module):
    """(B, S, F) -> (B, ceil(S / stride), D): 3x3 convolutions with ReLU, flattened and projected."""

    def __init__(self, dim_in: int, channels: int, dim: int, stages: list[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.stages.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for _ in stages:
            dim_in = (dim_in + 1) // 2
        self.out = Linear(channels * dim_in, dim)

    def forward(self, feats: Seq) -> Seq:
        lengths = feats.lengths
        with torch.autocast("cpu", enabled=False):  # few channels: bf16 only slows a CPU down
            x = (feats.x.float() * feats.valid[..., None])[:, None]  # (B, 1, S, F)
            x = x.contiguous(memory_format=torch.channels_last)
            for stage in self.stages:
                lengths = (lengths + 1) // 2
                x = stage(x)  # (B, C, S / 2, F / 2), again and again
                silence_after(x, lengths)
                x = _ReLU.apply(x)
        return Seq(self.out(x.transpose(1, 2).flatten(2)), lengths)  # (B, T, D)


def convolution(channels_in: int, channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, kernel_size=3, stride=2, padding=1, groups=groups)


def depthwise_striding(dim_in: int, channels: int, dim: int, stride: int) -> Striding:
    """One full convolution, then depthwise-separable ones (FastConformer, arXiv 2305.05084)."""
    separable = (
        nn.Sequential(convolution(channels, channels, channels), nn.Conv2d(channels, channels, 1))
        for _ in range(stride.bit_length() - 2)
    )
    return Striding(dim_in, channels, dim, [convolution(1, channels), *separable])


def full_striding(dim_in: int, channels: int, dim: int, stride: int) -> Striding:
    """Full convolutions only (Conformer, arXiv 2005.08100)."""
    more = (convolution(channels, channels) for _ in range(stride.bit_length() - 2))
    return Striding(dim_in, channels, dim, [convolution(1, channels), *more])
