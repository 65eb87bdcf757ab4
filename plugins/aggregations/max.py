from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from research.downstream import Aggregation
from research.registry import register


@register("max")
class Max(Aggregation):
    """The largest value of any layer, element by element."""

    @dataclass(kw_only=True)
    class Config(Aggregation.Config):
        pass

    def __init__(self, cfg: Config, *, dim_in: int, layers: int) -> None:
        super().__init__()
        self.dim = dim_in

    def forward(self, layers: Sequence[Tensor]) -> Tensor:  # each (B, T, D) -> (B, T, D)
        return reduce(torch.maximum, layers)
