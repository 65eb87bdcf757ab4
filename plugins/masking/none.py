from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Masking
from research.registry import register


@register("none")
class NoMasking(Masking):
    """For objectives that learn from whole utterances; one that learns from masked frames refuses it."""

    hides = False

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        pass

    def __init__(self, cfg: Config) -> None:
        super().__init__()

    def forward(self, lengths: Tensor, size: int) -> Tensor:  # (B,) -> bool (B, S)
        return torch.zeros(len(lengths), size, dtype=torch.bool)
