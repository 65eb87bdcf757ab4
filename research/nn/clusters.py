"""Codebooks that move after the inputs nearest to their codes, without gradients."""

import torch
from torch import Tensor, distributed

from research.contracts import Codes, Quantizer

ROWS = 4096  # inputs compared with the codebook at a time: bounds the memory of the (M, V) distances


class Clusters(Quantizer):
    """One book of codes that lie among the inputs: each input has the nearest code (l2), its vector is that code.

    A code is the mean of all inputs that were its own, those of earlier steps weighing `decay` less from step to step.
    Codes begin at random inputs of the first step, and so does in each later step a code that has had no input of its
    own yet; until then ids are of a random codebook. Forward only collects, in training; ranks meet once a step.
    Nothing is trained, no gradient passes, and all of it is fp32 under any autocast.
    """

    online = True
    codebook: Tensor  # (V, C)
    weight: Tensor  # (V,) of all inputs that each code has had; -1: it has not begun
    pool: Tensor  # (V, C + 1) of the step so far: the sum of each code's inputs, and their number
    drawn: Tensor  # (V, 1 + C) a sample of the step's inputs behind random keys, rising; inf: there is none

    def __init__(self, codes: int, dim: int, decay: float) -> None:
        super().__init__()
        self.books, self.codes, self.dim, self.decay = 1, codes, dim, decay
        self.register_buffer("codebook", torch.randn(codes, dim) / dim**0.5)
        self.register_buffer("weight", torch.full((codes,), -1.0))
        self.register_buffer("pool", torch.zeros(codes, dim + 1), persistent=False)
        self.register_buffer("drawn", torch.full((codes, 1 + dim), torch.inf), persistent=False)

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
        """Add inputs (M, C) to the pool of their codes (M,), and let them be drawn."""
        each = torch.arange(self.codes, device=x.device)  # (V,)
        sums = torch.zeros_like(self.pool)
        for part, own in zip(x.split(ROWS), ids.split(ROWS), strict=True):
            hot = (own[:, None] == each).float()  # (M, V)
            sums += hot.T @ torch.cat([part, torch.ones_like(part[:, :1])], 1)  # (V, C + 1)
        self.pool += torch.where(sums.isfinite().all(), sums, 0)  # a step that is skipped leaves no trace
        keys = torch.rand(len(x), 1, device=x.device)
        keys.masked_fill_(~x.isfinite().all(1, keepdim=True), torch.inf)
        self.drawn.copy_(first(torch.cat([self.drawn, torch.cat([keys, x], 1)]), self.codes))

    def on_step_end(self, step: int) -> None:
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(self.pool)
            drawn = [torch.empty_like(self.drawn) for _ in range(distributed.get_world_size())]
            distributed.all_gather(drawn, self.drawn)
            self.drawn.copy_(first(torch.cat(drawn), self.codes))
        self.move()
        self.begin()
        self.pool.zero_()
        self.drawn.fill_(torch.inf)

    def move(self) -> None:
        """Move the codes that have begun to the means of all their inputs."""
        total, count = self.pool.split([self.dim, 1], 1)  # (V, C), (V, 1)
        mean = total / count.clamp(min=1)
        count = count[:, 0] * (self.weight >= 0)  # (V,)
        tiny = torch.finfo(torch.float).tiny  # what had an input never weighs nothing
        old = torch.where(self.weight > 0, (self.decay * self.weight).clamp(min=tiny), self.weight)  # (V,)
        self.weight.copy_(old + count)
        self.codebook.lerp_(mean, (count / self.weight.clamp(min=1))[:, None])

    def begin(self) -> None:
        """Put codes that have had no input at inputs that were drawn, as far as these go."""
        waits = self.weight <= 0  # (V,)
        start = self.drawn[(waits.cumsum(0) - 1).clamp(min=0)]  # (V, 1 + C)
        begins = waits & start[:, 0].isfinite()
        self.codebook.copy_(torch.where(begins[:, None], start[:, 1:], self.codebook))
        self.weight.masked_fill_(begins, 0)

    def refit(self) -> None:
        self.weight.fill_(-1)
        self.drawn.fill_(torch.inf)


def first(drawn: Tensor, codes: int) -> Tensor:
    """Of inputs behind random keys those with the smallest: a sample that no order of batches changes."""
    return drawn[drawn[:, 0].topk(codes, largest=False).indices]
