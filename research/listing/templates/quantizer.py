from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Codes, Quantizer
from research.registry import register


@register("starter")
class Starter(Quantizer):
    """Say here how codes are found, and from which paper (arXiv id). As it is: the nearest of some random directions."""

    codebook: Tensor  # (V, dim_in)

    @dataclass(kw_only=True)
    class Config(Quantizer.Config):
        codes: int = 64

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        self.books, self.codes, self.dim = 1, cfg.codes, dim_in
        self.register_buffer("codebook", F.normalize(torch.randn(cfg.codes, dim_in), dim=-1))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Codes:  # (..., dim_in) -> ids (..., 1), vectors (..., dim_in)
        with torch.autocast(x.device.type, enabled=False):  # ids must not depend on the compute dtype
            scores = F.normalize(x.float(), dim=-1) @ self.codebook.mT  # (..., V)
        ids = scores.argmax(-1)  # (...)
        return Codes(ids[..., None], self.codebook[ids])

    def on_step_end(self, step: int) -> None:
        """Move codes here, never in `forward`: this runs once after every optimizer step."""
