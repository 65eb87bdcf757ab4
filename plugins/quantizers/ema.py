from dataclasses import dataclass

import torch
from torch import Tensor

from research.errors import HarkError
from research.nn.clusters import Clusters
from research.registry import register


@register("ema")
class EMA(Clusters):
    """Codes that are moving averages of their inputs: online clusters (DinoSR, arXiv 2305.10005, eq. 3 to 5).

    So does VQ-VAE without a gradient to its codebook (arXiv 1711.00937, appendix A.1). Sum s and number n of a code's
    inputs move to `decay` * old + (1 - `decay`) * this step's, and the code is s / n. It is kept as that quotient and n,
    so that it stays what it is when n has fallen to 0. As in DinoSR nothing brings dead codes back: one without inputs
    stays in its place and weighs less from step to step, until the first input that it gets takes it along.
    """

    example = ("quantizer.codes=16",)
    weight: Tensor  # (V,) n

    @dataclass(kw_only=True)
    class Config(Clusters.Config):
        codes: int = 256  # V
        decay: float = 0.9  # share of a code's average that a step keeps

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg.codes, dim_in)
        if not 0 <= cfg.decay < 1:
            raise HarkError(f"quantizer.decay={cfg.decay}: choose a share from 0 to below 1")
        self.decay = cfg.decay
        self.register_buffer("weight", torch.ones(cfg.codes))

    def move(self, mean: Tensor, count: Tensor) -> None:
        new = (1 - self.decay) * count  # (V,)
        self.weight.mul_(self.decay).add_(new)
        share = new / self.weight.clamp(min=torch.finfo(torch.float).tiny)  # (V,)
        self.codebook.lerp_(mean, share[:, None])

    def refit(self) -> None:
        """Let the next inputs of every code take it along."""
        self.weight.zero_()
        self.pool.zero_()
