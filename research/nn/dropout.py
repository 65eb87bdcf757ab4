"""Dropout that costs a CPU a fifth of torch's, and a byte of memory for each element."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, library, nn
from torch.nn import functional as F

_LEVELS = 2**16


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability `p` (to 16 bits), scale up the others: any shape -> the same."""
    if p == 0:
        return x
    if x.is_cuda:
        return F.dropout(x, p)
    return kept(x, keep(x.detach(), p), p)


def draw(x: Tensor, p: float) -> Tensor:
    """Draw which elements stay, all but a share `p`: any shape -> uint8 of the same, 0 or 1.

    torch's generator draws a seed, and SFC64 the numbers, in half of the time: four from every 64 bits.
    """
    seed = int(torch.empty((), dtype=torch.int64).random_())
    quads = np.random.Generator(np.random.SFC64(seed)).integers(0, 2**64, -(-x.numel() // 4), dtype=np.uint64)
    numbers = torch.from_numpy(quads.view(np.int16))[: x.numel()].view(x.shape)
    mask = torch.empty(x.shape, dtype=torch.uint8)
    return torch.ge(numbers, round(p * _LEVELS) - _LEVELS // 2, out=mask)


def shape(x: Tensor, p: float) -> Tensor:  # noqa: ARG001  as the operator
    return torch.empty(x.shape, dtype=torch.uint8, device=x.device)


# An operator of its own: torch.compile calls it as it is, and never twice for one result or once for two. Defined by
# hand, for torch's decorator imports the compiler at the first call, a second of every start
HARK = library.Library("hark", "FRAGMENT")
HARK.define("keep(Tensor x, float p) -> Tensor", tags=torch.Tag.nondeterministic_seeded)
HARK.impl("keep", draw, "CPU")
library.register_fake("hark::keep", shape, lib=HARK)
keep = torch.ops.hark.keep


def kept(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """`x` where `mask` is 1, scaled up for the chance `p` of zeros."""
    y: Tensor = _Kept.apply(x, mask, _LEVELS / (_LEVELS - round(p * _LEVELS)))
    return y


class _Kept(torch.autograd.Function):
    """Multiplication with a mask of bytes: autograd would keep one of the input's dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return (x * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (grad * mask).mul_(ctx.scale), None, None


class Dropout(nn.Module):
    """Dropout in training, nothing else."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x
