"""Dropout that costs a CPU half of torch's."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LEVELS = 2**16


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each element with probability `p` (to 16 bits), scale up the others: any shape -> the same."""
    if p == 0:
        return x
    if x.is_cuda:
        return F.dropout(x, p)
    level = round(p * _LEVELS)
    quads = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    numbers = quads.view(torch.int16)[: x.numel()].view(x.shape)  # four from every draw
    keep = (numbers >= level - _LEVELS // 2).to(x.dtype) * (_LEVELS / (_LEVELS - level))
    return x * keep


class Dropout(nn.Module):
    """Dropout in training, nothing else."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x
