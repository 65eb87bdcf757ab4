"""Multi-head self-attention on padded sequences: positions of several kinds or none; whole or local context."""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Seq
from research.errors import HarkError
from research.nn.dropout import dropout
from research.nn.linear import Linear

_FAR = -1e4  # as good as -inf for a softmax, but a row that sees nothing gives no NaN
_CHUNK = 64  # frames: the least that local attention computes at once


class Positions(Enum):
    """How attention knows what is where."""

    rel_pos = "rel_pos"  # learned products with sinusoids of the distance (Transformer-XL, arXiv 1901.02860)
    rope = "rope"  # rotated queries and keys (arXiv 2104.09864)
    alibi = "alibi"  # scores fall with distance, to both sides alike (arXiv 2108.12409)
    none = "none"


class Window(Enum):
    """Which frames attention sees, of a context of `left` and `right` frames."""

    sliding = "sliding"  # those next to each frame; with every layer, more lie ahead
    chunked = (
        "chunked"  # chunks of right + 1 frames see themselves and those before; layers add nothing ahead
    )


def last_seen(frame: int, right: int, window: Window) -> int:
    """Give the last frame that a frame sees."""
    return frame + right - (frame % (right + 1) if window is Window.chunked else 0)


def refuse_context(context: tuple[int, int], window: Window) -> None:
    """Raise HarkError for a context that no attention can have."""
    left, right = context
    if min(context) < -1:
        raise HarkError(f"encoder.context={list(context)}: give two numbers of frames, -1 for all")
    if window is Window.chunked and (right < 0 or max(left, 0) % (right + 1)):
        raise HarkError(
            f"encoder.context={list(context)}: a chunk is as many frames as the second number and one more, and the "
            "first number is some of these or -1; give such as [70,13], or type encoder.window=sliding"
        )


def angles(positions: Tensor, dim: int) -> Tensor:
    """Every position at dim / 2 wavelengths from 2 pi to 20,000 pi: (P,) -> (P, dim / 2)."""
    rates = torch.exp(torch.arange(0, dim, 2, device=positions.device) * (-math.log(10_000.0) / dim))
    return positions[:, None].float() * rates


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Sine and cosine in turn (arXiv 1706.03762, section 3.5): (P,) -> (P, dim)."""
    turns = angles(positions, dim)
    return torch.stack([turns.sin(), turns.cos()], dim=-1).flatten(-2)[:, :dim]


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn pairs of channels, half a vector apart: (B, T, H, Dh), (T, Dh / 2) -> (B, T, H, Dh)."""
    sin, cos = turns.sin()[:, None].to(x.dtype), turns.cos()[:, None].to(x.dtype)  # (T, 1, Dh / 2)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def slopes(heads: int) -> Tensor:
    """How fast the scores of each head fall per frame: 2 ^ (-8 / H) and its powers (arXiv 2108.12409, section 3).

    Where H is no power of two, every other one of twice as many heads follows those of the power below: (H,).
    """
    whole = 1 << (heads.bit_length() - 1)
    steps = [i + 1.0 for i in range(whole)] + [i + 0.5 for i in range(heads - whole)]
    return torch.exp2(torch.tensor(steps) * (-8 / whole))


def skew(scores: Tensor, keys: int) -> Tensor:
    """Scores by distance -> scores by key: (..., C, C + K) -> (..., C, K), a view.

    Query a finds key b at index C - 1 - a + b of its row: flattened, rows that are one shorter.
    """
    queries, distances = scores.shape[-2:]
    return scores.flatten(-2)[..., queries - 1 : -1].unflatten(-1, (queries, distances - 1))[..., :keys]


@dataclass
class Layout:
    """What the attention of every layer shares in one pass over (B, T, D).

    Queries come in chunks of C frames, B' = B * chunks in all; a chunk sees K = before + C + after frames. Unlimited
    context is one chunk.
    """

    chunk: int  # C
    before: int
    after: int
    bias: Tensor  # (B', 1, 1 or C, K): 0 where a query may look, else far below
    table: (
        Tensor  # (C + K, D) sinusoids of the distances, (T, Dh / 2) angles to rotate by, or (H, C, K) biases
    )

    def queries(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B', C, D)."""
        return windows(x, 0, self.chunk, 0)

    def keys(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B', K, D)."""
        return windows(x, self.before, self.chunk, self.after)


def windows(x: Tensor, before: int, chunk: int, after: int) -> Tensor:
    """Chunks with what surrounds them, zeros outside: (B, T, D) -> (B', before + chunk + after, D)."""
    if chunk == x.size(1):
        return x
    x = F.pad(x, (0, 0, before, after + -x.size(1) % chunk))
    return x.unfold(1, before + chunk + after, chunk).transpose(2, 3).flatten(0, 1)


def lay_out(
    x: Seq, left: int, right: int, positions: Positions, heads: int, *, window: Window = Window.sliding
) -> Layout:
    """Prepare attention over x (B, T, D), from `left` frames back to `right` frames ahead (-1: all)."""
    size, dim, device = x.x.size(1), x.x.size(2), x.x.device
    chunk, before, after = share(size, left, right, window)
    seen = windows(x.valid[..., None].float(), before, chunk, after).transpose(1, 2)  # (B', 1, K)
    if left >= 0 or right >= 0:
        query = torch.arange(chunk, device=device)[:, None]  # (C, 1)
        key = torch.arange(seen.size(2), device=device) - before  # (K,)
        start = query - query % (right + 1) if window is Window.chunked else query  # (C, 1)
        reach = start - key <= (left if left >= 0 else size)  # (C, K)
        reach &= key - start <= (right if right >= 0 else size)
        seen = seen * reach  # (B', C, K)
    match positions:
        case Positions.rel_pos:
            far = chunk - 1 + before
            table = sinusoids(torch.arange(far, -chunk - after - 1, -1, device=device), dim)  # (C + K, D)
        case Positions.rope:
            table = angles(torch.arange(size, device=device), dim // heads)  # (T, Dh / 2)
        case Positions.alibi:
            offsets = torch.arange(seen.size(-1), device=device) - before  # (K,)
            distance = (offsets - torch.arange(chunk, device=device)[:, None]).abs()  # (C, K)
            table = slopes(heads).to(device, non_blocking=True)[:, None, None] * -distance  # (H, C, K)
        case Positions.none:
            table = torch.empty(0, device=device)
    return Layout(chunk, before, after, ((1 - seen) * _FAR)[:, None], table)


def share(size: int, left: int, right: int, window: Window) -> tuple[int, int, int]:
    """Frames that local attention computes at once, and how many more it reads before and after these."""
    chunk = max(left + right, _CHUNK)
    if window is Window.chunked:
        chunk += -chunk % (right + 1)  # whole chunks, so that nothing after them is seen
    if left < 0 or right < 0 or chunk >= size:
        return size, 0, 0
    return chunk, left, 0 if window is Window.chunked else right


class Attention(nn.Module):
    """Self-attention that knows no positions. `dropout` is on the attention weights."""

    def __init__(self, dim: int, heads: int, *, bias: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = Linear(dim, 3 * dim, bias=bias)
        self.out = Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        q, k, v = self.place(self.qkv(x), layout)  # each (B, T, D)
        q, k, v = layout.queries(q), layout.keys(k), layout.keys(v)  # (B', C, D), (B', K, D) twice
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v)
        )  # (B', H, C or K, Dh)
        y = self.attend(q, k, v, layout).transpose(1, 2)  # (B', C, H, Dh)
        return self.out(y.reshape(x.size(0), -1, x.size(2))[:, : x.size(1)])  # (B, T, D)

    def place(self, qkv: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        """(B, T, 3 D) -> queries, keys and values."""
        return qkv.chunk(3, dim=-1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """(B', H, C, Dh) and twice (B', H, K, Dh) -> (B', H, C, Dh)."""
        return self.weigh(q, k, v, layout.bias)

    def weigh(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        p = self.dropout if self.training else 0.0
        if p == 0 or q.is_cuda:
            return F.scaled_dot_product_attention(q, k, v, bias.to(q.dtype), p)
        scores = (q * q.size(-1) ** -0.5) @ k.transpose(-1, -2) + bias.to(q.dtype)  # (B', H, C, K)
        return (
            dropout(scores.softmax(-1), p) @ v
        )  # a CPU's fused kernels know no dropout, and torch's is slow


class RotaryAttention(Attention):
    """Self-attention with rotary positions."""

    def place(self, qkv: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        q, k, v = qkv.unflatten(-1, (3 * self.heads, -1)).chunk(3, dim=2)  # (B, T, H, Dh)
        return rotate(q, layout.table).flatten(2), rotate(k, layout.table).flatten(2), v.flatten(2)


class RelativeAttention(Attention):
    """Self-attention with learned products of sinusoids of the distance (arXiv 1901.02860, section 3.3)."""

    def __init__(self, dim: int, heads: int, *, bias: bool, dropout: float) -> None:
        super().__init__(dim, heads, bias=bias, dropout=dropout)
        self.distance = Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))  # u
        self.distance_bias = nn.Parameter(torch.zeros(heads, dim // heads))  # v

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        scale = q.size(-1) ** -0.5
        far = self.distance(layout.table).unflatten(-1, (self.heads, -1)).permute(1, 2, 0)  # (H, Dh, C + K)
        asked = (q + self.distance_bias[:, None].to(q.dtype)) * scale  # (B', H, C, Dh)
        by_distance = torch.einsum(
            "bhcd,hdk->bhck", asked, far
        )  # (B', H, C, C + K), without B' copies of `far`
        bias = skew(by_distance, k.size(2)) + layout.bias.to(q.dtype)  # (B', H, C, K)
        return self.weigh(q + self.content_bias[:, None].to(q.dtype), k, v, bias)


class BiasedAttention(Attention):
    """Self-attention with a bias by distance, the same for all queries."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        return self.weigh(q, k, v, layout.table + layout.bias)


ATTENTION: dict[Positions, type[Attention]] = {
    Positions.rel_pos: RelativeAttention,
    Positions.rope: RotaryAttention,
    Positions.alibi: BiasedAttention,
    Positions.none: Attention,
}
