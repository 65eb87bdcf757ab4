"""The Transformer of wav2vec 2.0 and of its kin: convolutional positions, norms after or before, bucketed distances."""

import math
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.nn.attention import Attention, Layout
from research.nn.causal import Convolutions
from research.nn.dropout import Dropout
from research.nn.linear import Linear


class NormOrder(Enum):
    """Where a block normalises."""

    post = "post"  # after each residual sum (arXiv 1706.03762)
    pre = "pre"  # what attention and feed-forward read; a last norm follows the last block


class PositionNorm(Enum):
    """What keeps a position convolution in bounds."""

    weight = "weight"  # its weights: a direction and a gain for each tap (wav2vec 2.0)
    layer = "layer"  # what it gives, per frame (data2vec)


class PositionConv(nn.Module):
    """Positions from what surrounds a frame, zeros outside: grouped convolution, GELU (arXiv 2006.11477, section 2)."""

    def __init__(
        self,
        dim: int,
        kernel: int,
        groups: int,
        norm: PositionNorm,
        reads: Convolutions = Convolutions.centred,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.conv = nn.Conv1d(dim, dim, kernel, padding=reads.padding(kernel), groups=groups)
        nn.init.normal_(self.conv.weight, std=math.sqrt(4 / (kernel * dim)))
        self.conv.bias = nn.Parameter(torch.zeros(dim))
        if norm is PositionNorm.weight:
            self.gain = nn.Parameter(size_of_taps(self.conv.weight).detach().clone())

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        weight = self.conv.weight  # (D, D / groups, K)
        if self.norm is PositionNorm.weight:
            weight = weight * (self.gain / size_of_taps(weight))
        inside = (x * valid[..., None]).transpose(1, 2)  # (B, D, T)
        y = F.conv1d(
            inside, weight, self.conv.bias, padding=self.conv.padding, groups=self.conv.groups
        )  # (B, D, T or more)
        y = y[..., : x.size(1)].transpose(1, 2)  # (B, T, D)
        return F.gelu(F.layer_norm(y, y.shape[-1:]) if self.norm is PositionNorm.layer else y)


def size_of_taps(weight: Tensor) -> Tensor:
    """Length of everything that one tap of a kernel holds: (D, C, K) -> (1, 1, K) (arXiv 1602.07868)."""
    return weight.square().sum((0, 1), keepdim=True).sqrt()


class Block(nn.Module):
    """Attention, then a feed-forward with GELU. A skipped block gives what it reads (arXiv 1909.11556)."""

    def __init__(
        self,
        attention: Attention,
        dim: int,
        ff_dim: int,
        *,
        order: NormOrder,
        dropout: float,
        dropout_ff: float,
        layer_drop: float,
    ) -> None:
        super().__init__()
        self.order, self.layer_drop = order, layer_drop
        self.attention = attention
        self.attention_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.up, self.down = Linear(dim, ff_dim), Linear(ff_dim, dim)
        self.dropout, self.dropout_ff = Dropout(dropout), Dropout(dropout_ff)
        for linear in (attention.qkv, attention.out, self.up, self.down):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:  # (B, T, D) -> (B, T, D)
        match self.order:
            case NormOrder.post:
                y = self.attention_norm(x + self.dropout(self.attention(x, layout)))
                y = self.norm(y + self.dropout(self.feed_forward(y)))
            case NormOrder.pre:
                y = x + self.dropout(self.attention(self.attention_norm(x), layout))
                y = y + self.dropout(self.feed_forward(self.norm(y)))
        if not self.training or self.layer_drop == 0:
            return y
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.layer_drop  # (B, 1, 1)
        return torch.where(kept, y, x)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout_ff(F.gelu(self.up(x))))


class GatedAttention(Attention):
    """Self-attention with a bias by distance that every query opens or shuts (WavLM, arXiv 2110.13900, section 3.2)."""

    def __init__(self, dim: int, heads: int, *, bias: bool, dropout: float) -> None:
        super().__init__(dim, heads, bias=bias, dropout=dropout)
        self.gate = Linear(dim // heads, 8)
        self.gate_scale = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """(B, T, D) -> (B, T, D); `layout.table` is the bias by distance (H, T, T)."""
        x_heads = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, Dh)
        update, reset = (
            self.gate(x_heads).unflatten(-1, (2, 4)).sum(-1).sigmoid().split(1, -1)
        )  # (B, H, T, 1)
        gate = update * (reset * self.gate_scale - 1) + 2
        qkv = self.qkv(x).unflatten(-1, (3 * self.heads, -1)).transpose(1, 2)  # (B, 3 H, T, Dh)
        q, k, v = qkv.chunk(3, dim=1)  # each (B, H, T, Dh)
        y = self.weigh(q, k, v, gate * layout.table + layout.bias)  # (B, H, T, Dh)
        return self.out(y.transpose(1, 2).flatten(2))  # (B, T, D)


class Distances(nn.Module):
    """A bias for each head and distance: near ones apart, far ones in logarithmic buckets (T5, arXiv 1910.10683)."""

    def __init__(self, buckets: int, heads: int, farthest: int) -> None:
        super().__init__()
        self.farthest = farthest  # frames from which on all are one bucket
        self.weight = nn.Parameter(0.02 * torch.randn(buckets, heads))

    def forward(self, size: int) -> Tensor:
        """Give the bias of every pair of `size` frames, query by key: (H, T, T)."""
        offsets = torch.arange(1 - size, size, device=self.weight.device)  # (2 T - 1,)
        by_offset = F.embedding(self.bucket(offsets), self.weight).T  # (H, 2 T - 1)
        return by_offset.unfold(1, size, 1).flip(1)  # (H, T, T)

    def bucket(self, offsets: Tensor) -> Tensor:
        """Key minus query -> bucket: half of them look back, half of those are one frame wide."""
        side = len(self.weight) // 2
        exact = side // 2
        distance = offsets.abs()
        steps = torch.log(distance.clamp(min=1) / exact) / math.log(self.farthest / exact)
        far = (exact + steps * (side - exact)).long().clamp(max=side - 1)
        return torch.where(distance < exact, distance, far) + side * (offsets > 0)
