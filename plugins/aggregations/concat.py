from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from research.downstream import Aggregation
from research.registry import register


@register("concat")
class Concat(Aggregation):
    """The layers side by side: L times as wide."""

    @dataclass(kw_only=True)
    class Config(Aggregation.Config):
        pass

    def __init__(self, cfg: Config, *, dim_in: int, layers: int) -> None:
        super().__init__()
        self.dim = dim_in * layers

    def forward(self, layers: Sequence[Tensor]) -> Tensor:  # each (B, T, D) -> (B, T, L * D)
        return torch.cat(list(layers), -1)
