"""Normalisation of padded sequences: padding never counts. Statistics are fp32 under any autocast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PIECE = 512  # frames that are added up in one go
# 0 while a forward repeats an earlier one. A tensor, so that a compiled block is the same both times
_first = torch.ones((), device="cpu")


@contextmanager
def recomputing() -> Iterator[None]:
    """Mark a forward that repeats an earlier one (activation checkpointing): its statistics are counted already."""
    _first.zero_()
    try:
        yield
    finally:
        _first.fill_(1)


class _Normalize(torch.autograd.Function):
    """x (B, T, C) by the moments of the frames that are inside, 1 or 0 (B, T, 1); the moments (C,), and the count.

    By hand for what it does not keep: of all activations, x alone (arXiv 1502.03167, section 3).
    """

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by position
        ctx: Any, x: Tensor, inside: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide, count = x.float(), inside.sum()
        n = count.clamp(min=1)
        mean = (wide * inside).sum((0, 1)) / n  # (C,)
        var = ((wide - mean) * inside).square().sum((0, 1)) / n  # (C,)
        spread = (var + eps).rsqrt()
        ctx.save_for_backward(x, inside, weight, mean, spread, n)
        ctx.mark_non_differentiable(mean, var, count)
        scale = weight * spread
        return torch.addcmul(bias - mean * scale, wide, scale).to(x.dtype), mean, var, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, inside, weight, mean, spread, n = ctx.saved_tensors
        g, normal = grad.float(), (x.float() - mean) * spread  # (B, T, C)
        db, dw = g.sum((0, 1)), (g * normal).sum((0, 1))  # (C,)
        dx = (g - (db + normal * dw) * (inside / n)) * (weight * spread)  # (B, T, C)
        return dx.to(x.dtype), None, dw, db, None


class BatchNorm(nn.Module):
    """Batch normalisation over the valid frames of a batch (arXiv 1502.03167).

    Training forwards only add to `pool`; `update_running` turns what all micro-batches of a step (and all ranks)
    pooled into one move of the running statistics.
    """

    running_mean: Tensor  # (C,)
    running_var: Tensor  # (C,)
    pool: Tensor  # (2 C + 1,) sums of x and x², and how many frames

    def __init__(self, dim: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.dim, self.momentum, self.eps = dim, momentum, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("pool", torch.zeros(2 * dim + 1), persistent=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C) and bool (B, T) -> (B, T, C)."""
        with torch.autocast(x.device.type, enabled=False):
            if self.training:
                y, *moments = _Normalize.apply(x, valid[..., None].float(), self.weight, self.bias, self.eps)
                self.add(*moments)
                return y
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            return torch.addcmul(shift, x.float(), scale).to(x.dtype)  # (B, T, C)

    @torch.no_grad()
    def add(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Put moments (C,) of so many frames into the pool."""
        sums = torch.cat([mean * count, (var + mean.square()) * count, count[None]])
        sums = torch.where(sums.isfinite().all(), sums, 0)  # a step that is skipped leaves no trace
        self.pool += sums * _first

    @torch.no_grad()
    def absorb(self, pool: Tensor) -> None:
        """Move the running statistics towards pooled sums (2 C + 1,), and empty the pool."""
        total, squares, count = pool.split([self.dim, self.dim, 1])
        mean = total / count.clamp(min=1)
        var = (squares - total * mean).clamp(min=0) / (count - 1).clamp(min=1)  # (C,)
        move = self.momentum * (count > 1)
        self.running_mean.lerp_(mean, move)
        self.running_var.lerp_(var, move)
        self.pool.zero_()


def update_running(norms: Sequence[BatchNorm]) -> None:
    """Once per optimizer step: sum the pools over ranks, then let every norm absorb its own."""
    if not norms:
        return
    pools = torch.cat([norm.pool for norm in norms])
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(pools)
    for norm, pool in zip(norms, pools.split([len(norm.pool) for norm in norms]), strict=True):
        norm.absorb(pool)


class LayerNorm(nn.Module):
    """Normalise every frame by itself (arXiv 1607.06450)."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class _NormalizeGroups(torch.autograd.Function):
    """x (B, T, C) by the moments of each utterance's groups of channels over the frames that are inside, 1 or 0 (B, T, 1).

    By hand for what it does not keep, of all activations x alone, and for its few passes over them: a waveform's first
    convolution makes the largest tensor of a model (arXiv 1803.08494, section 3).
    """

    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by position
        ctx: Any, x: Tensor, inside: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        wide, size = x.float(), weight.numel() // groups
        n = inside.sum(1, keepdim=True).clamp(min=1) * size  # (B, 1, 1)
        mean = pooled(over_frames(inside, wide), size) / n  # (B, 1, C)
        var = pooled(over_frames(inside, (wide - mean).square_()), size) / n
        spread = (var + eps).rsqrt()
        ctx.save_for_backward(x, inside, weight, mean, spread, n)
        ctx.size = size
        return (wide * (spread * weight)).add_(bias - mean * spread * weight).to(x.dtype)  # (B, T, C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inside, weight, mean, spread, n = ctx.saved_tensors
        g, wide = grad.float(), x.float()
        total = g.sum(1, keepdim=True)  # (B, 1, C)
        along = (wide - mean).mul_(g).sum(1, keepdim=True) * spread  # (B, 1, C) of g and what is normal
        shift = pooled(total * weight, ctx.size) * spread / n
        slope = pooled(along * weight, ctx.size) * spread.square() / n
        dx = (wide - mean).mul_(-slope).sub_(shift).mul_(inside)  # (B, T, C)
        dx = dx.addcmul_(g, spread * weight)
        return dx.to(x.dtype), None, along.sum((0, 1)), total.sum((0, 1)), None, None


def over_frames(inside: Tensor, x: Tensor) -> Tensor:
    """Sum over the frames that are inside, 1 or 0: (B, T, 1) and (B, T, C) -> (B, 1, C).

    As products of pieces: one sum over a long wave's frames would lose digits.
    """
    pieces = zip(inside.split(PIECE, 1), x.split(PIECE, 1), strict=True)
    return torch.stack([a.transpose(1, 2) @ b for a, b in pieces]).sum(0)


def pooled(x: Tensor, size: int) -> Tensor:
    """Sum over the channels of a group, for each of them: (B, 1, C) -> (B, 1, C)."""
    return x.unflatten(-1, (-1, size)).sum(-1, keepdim=True).expand(-1, -1, -1, size).flatten(-2)


class GroupNorm(nn.Module):
    """Normalise groups of channels over the valid frames of each utterance (arXiv 1803.08494)."""

    def __init__(self, dim: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C) and bool (B, T) -> (B, T, C)."""
        with torch.autocast(x.device.type, enabled=False):
            inside = valid[..., None].float()  # (B, T, 1)
            y: Tensor = _NormalizeGroups.apply(x, inside, self.weight, self.bias, self.groups, self.eps)
            return y
