"""Normalisation of padded sequences: padding never counts. Statistics are fp32 under any autocast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

_recomputing: ContextVar[bool] = ContextVar("recomputing", default=False)


@contextmanager
def recomputing() -> Iterator[None]:
    """Mark a forward that repeats an earlier one (activation checkpointing): its statistics are counted already."""
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


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
                mean, var = self.moments(x.float(), valid)
            else:
                mean, var = self.running_mean, self.running_var
            scale = self.weight * (var + self.eps).rsqrt()
            return torch.addcmul(self.bias - mean * scale, x.float(), scale).to(x.dtype)  # (B, T, C)

    def moments(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        inside = valid[..., None].float()  # (B, T, 1)
        count = inside.sum()
        mean = (x * inside).sum((0, 1)) / count.clamp(min=1)  # (C,)
        var = ((x - mean) * inside).square().sum((0, 1)) / count.clamp(min=1)  # (C,)
        if not _recomputing.get():
            with torch.no_grad():
                sums = torch.cat([mean * count, (var + mean.square()) * count, count[None]])
                sums = torch.where(sums.isfinite().all(), sums, 0)  # a step that is skipped leaves no trace
                self.pool += sums
        return mean, var

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
            y = x.float().unflatten(-1, (self.groups, -1))  # (B, T, groups, C / groups)
            inside = valid[..., None, None].float()  # (B, T, 1, 1)
            count = inside.sum((1, 3), keepdim=True).clamp(min=1) * y.size(-1)
            mean = (y * inside).sum((1, 3), keepdim=True) / count  # (B, 1, groups, 1)
            var = ((y - mean) * inside).square().sum((1, 3), keepdim=True) / count
            y = ((y - mean) * (var + self.eps).rsqrt()).flatten(-2)  # (B, T, C)
            return torch.addcmul(self.bias, y, self.weight).to(x.dtype)
