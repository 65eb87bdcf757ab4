from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Masking
from research.errors import HarkError
from research.registry import register


@register("starter")
class Starter(Masking):
    """Say here what is masked, and from which paper (arXiv id). As it is: one span at a random place of every row."""

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        share: float = 0.3  # of a row that is masked

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        if not 0 < cfg.share <= 1:
            raise HarkError(f"masking.share={cfg.share}: choose more than 0 and at most 1")
        self.cfg = cfg

    def forward(self, lengths: Tensor, size: int) -> Tensor:  # (B,) -> bool (B, S)
        span = (self.cfg.share * lengths).ceil().long()  # (B,) at least 1 in a row that has a frame
        start = (torch.rand(len(lengths)) * (lengths - span + 1)).long()  # (B,)
        time = torch.arange(size)  # (S,)
        return (time >= start[:, None]) & (time < (start + span)[:, None])
