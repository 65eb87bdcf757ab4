"""State-space duality (Mamba-2, arXiv 2405.21060): a linear recurrence over time, computed in chunks by matmuls."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.nn.causal import Convolutions, Depthwise
from research.nn.linear import Linear

_CHUNK = 64  # frames


def spans(x: Tensor) -> Tensor:
    """Sums over every span of frames: (..., C) -> (..., C, C), at [i, j] of x from j + 1 to i, -inf where j > i.

    Each is summed by itself: differences of longer sums would cancel.
    """
    size = x.size(-1)
    ones = torch.ones(size, size, dtype=torch.bool, device=x.device)
    steps = x[..., None].expand(*x.shape, size).masked_fill(~ones.tril(-1), 0)  # (..., C, C)
    return steps.cumsum(-2).masked_fill(~ones.tril(), -math.inf)


def scan(x: Tensor, decay: Tensor, write: Tensor, read: Tensor, chunk: int = _CHUNK) -> Tensor:
    """y_t = read_t S_t of the states S_t = exp(decay_t) S_(t-1) + write_t x_t, in fp32 (section 6).

    (B, T, H, P), (B, T, H) logarithms of what is kept, at most 0, and twice (B, T, N) -> (B, T, H, P).
    """
    size = x.size(1)
    with torch.autocast(x.device.type, enabled=False):
        x, decay, write, read = (pieces(y.float(), chunk) for y in (x, decay, write, read))  # (B, Z, C, ...)
        x, decay = x.transpose(2, 3), decay.transpose(2, 3)  # (B, Z, H, C, P), (B, Z, H, C)
        total = decay.cumsum(-1)  # (B, Z, H, C)
        scores = (read @ write.mT)[:, :, None] * spans(decay).exp()  # (B, Z, H, C, C)
        y = scores @ x  # (B, Z, H, C, P) what a chunk tells itself
        rest = (total[..., -1:] - total).exp()  # (B, Z, H, C)
        states = (x * rest[..., None]).mT @ write[:, :, None]  # (B, Z, H, P, N) what it leaves behind
        kept = spans(F.pad(total[..., -1].mT, (1, 0))).exp()[..., :-1, 1:]  # (B, H, Z, Z)
        before = torch.einsum("bhyz,bzhpn->byhpn", kept, states)  # (B, Z, H, P, N) what it finds
        y = y + total.exp()[..., None] * (read[:, :, None] @ before.mT)
    return y.transpose(2, 3).flatten(1, 2)[:, :size]  # (B, T, H, P)


def pieces(x: Tensor, chunk: int) -> Tensor:
    """Cut into chunks, zeros after the end: (B, T, ...) -> (B, Z, C, ...)."""
    x = F.pad(x, (0,) * (2 * (x.ndim - 2)) + (0, -x.size(1) % chunk))
    return x.unflatten(1, (-1, chunk))


class Mixer(nn.Module):
    """What the past tells each frame: a short convolution, then one state per head (section 7)."""

    def __init__(self, dim: int, *, inner: int, head_dim: int, state: int, kernel: int) -> None:
        super().__init__()
        self.heads, self.inner, self.state = inner // head_dim, inner, state
        self.sizes = [inner, inner + 2 * state, self.heads]
        self.up = Linear(dim, sum(self.sizes), bias=False)
        self.depthwise = Depthwise(inner + 2 * state, kernel, Convolutions.causal)
        step = torch.exp(torch.empty(self.heads).uniform_(math.log(1e-3), math.log(1e-1)))
        self.step_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))  # softplus gives the step
        self.rate = nn.Parameter(torch.empty(self.heads).uniform_(1, 16).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.scale = nn.Parameter(torch.ones(inner))
        self.down = Linear(inner, dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D). What is not valid leaves no trace in any state."""
        gate, mixed, step = self.up(x).split(self.sizes, dim=-1)
        mixed = F.silu(self.depthwise(mixed * valid[..., None])) * valid[..., None]
        x, write, read = mixed.float().split([self.inner, self.state, self.state], dim=-1)
        x = x.unflatten(-1, (self.heads, -1))  # (B, T, H, P)
        step = F.softplus(step.float() + self.step_bias)  # (B, T, H)
        y = scan(x * step[..., None], -self.rate.exp() * step, write, read)
        y = (y + self.skip[:, None] * x).flatten(2) * F.silu(gate.float())  # (B, T, inner)
        return self.down(F.rms_norm(y, y.shape[-1:], self.scale, 1e-5))
