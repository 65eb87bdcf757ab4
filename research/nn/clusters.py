"""Codebooks that move after the inputs nearest to their codes, without gradients."""

import torch
from torch import Tensor, distributed

from research.contracts import Codes, Quantizer

ROWS = 4096  # inputs compared with the codebook at a time: bounds the memory of the (M, V) distances


class Clusters(Quantizer):
    """One book of codes that lie among the inputs: each input has the nearest code (l2), its vector is that code.

    In training every forward adds to `pool`; once per step the pools of all ranks are added up, and a subclass says
    in `move` where its codes go. Nothing is trained, no gradient passes, and all of it is fp32 under any autocast.
    """

    online = True
    codebook: Tensor  # (V, C)
    pool: Tensor  # (V, C + 1) of the step so far: the sum of each code's inputs, and their number

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.books, self.codes, self.dim = 1, codes, dim
        self.register_buffer("codebook", torch.randn(codes, dim) / dim**0.5)
        self.register_buffer("pool", torch.zeros(codes, dim + 1), persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Codes:  # (..., C) -> ids (..., 1), vectors (..., C)
        flat = x.float().flatten(0, -2)  # (M, C)
        with torch.autocast(x.device.type, enabled=False):
            ids = torch.cat([self.nearest(part) for part in flat.split(ROWS)])  # (M,)
            if self.training:
                self.collect(flat, ids)
        lead = x.shape[:-1]
        return Codes(ids[:, None].unflatten(0, lead), self.codebook[ids].unflatten(0, lead))

    def nearest(self, x: Tensor) -> Tensor:  # (M, C) -> (M,)
        return (self.codebook.square().sum(-1) - 2 * x @ self.codebook.T).argmin(-1)

    def collect(self, x: Tensor, ids: Tensor) -> None:
        """Add inputs (M, C) to the pool of their codes (M,)."""
        each = torch.arange(self.codes, device=x.device)  # (V,)
        sums = torch.zeros_like(self.pool)
        for part, own in zip(x.split(ROWS), ids.split(ROWS), strict=True):
            hot = (own[:, None] == each).float()  # (M, V)
            sums += hot.T @ torch.cat([part, torch.ones_like(part[:, :1])], 1)  # (V, C + 1)
        self.pool += torch.where(sums.isfinite().all(), sums, 0)  # a step that is skipped leaves no trace

    def on_step_end(self, step: int) -> None:
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.pool)
        total, count = self.pool.split([self.dim, 1], 1)  # (V, C), (V, 1)
        self.move(total / count.clamp(min=1), count[:, 0])
        self.pool.zero_()

    def move(self, mean: Tensor, count: Tensor) -> None:
        """Move the codes towards the means (V, C) of this step's inputs, of which each had `count` (V,)."""
        raise NotImplementedError
