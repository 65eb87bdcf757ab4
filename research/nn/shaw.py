"""Self-attention with one learned vector per distance, distances clipped (arXiv 1803.02155, equation 4)."""

import torch
from torch import Tensor, nn

from research.nn.attention import Attention, Layout, skew


class ShawAttention(Attention):
    """Queries also meet a vector of how far away the key is, shared by all heads. For unlimited context."""

    def __init__(self, dim: int, heads: int, *, reach: tuple[int, int], bias: bool, dropout: float) -> None:
        super().__init__(dim, heads, bias=bias, dropout=dropout)
        self.reach = reach  # frames to the left and right beyond which distances are the same
        self.distances = nn.Parameter(torch.randn(sum(reach) + 1, dim // heads) * dim**-0.5)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        by_distance = (q * q.size(-1) ** -0.5) @ self.spread(k.size(2)).to(q.dtype).T  # (B, H, T, 2 T)
        return self.weigh(q, k, v, skew(by_distance, k.size(2)) + layout.bias.to(q.dtype))

    def spread(self, size: int) -> Tensor:
        """Vectors of the distances from 1 - size to size: (left + 1 + right, Dh) -> (2 size, Dh).

        Repeated and cut instead of indexed, so that the gradient is a sum in one order on every device.
        """
        left, right = size - 1 - self.reach[0], size - self.reach[1]
        first, last = (
            self.distances[:1].expand(max(0, left), -1),
            self.distances[-1:].expand(max(0, right), -1),
        )
        table = torch.cat([first, self.distances, last])
        return table[max(0, -left) : len(table) - max(0, -right)]
