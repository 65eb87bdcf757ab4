"""Small modules shared by objectives."""

import torch
from torch import Tensor, nn

from research.contracts import Seq


class MaskToken(nn.Module):
    """Put one vector on masked frames, learned or (as NEST) fixed at its random start."""

    def __init__(self, dim: int, *, learned: bool = True, std: float = 0.1) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(dim) * std, requires_grad=learned)

    def forward(self, x: Seq, mask: Tensor) -> Seq:  # x (B, T, C), mask (B, T) on the host
        mask = mask.to(x.x.device, non_blocking=True)
        return x.replace(torch.where(mask[..., None], self.vector.to(x.x.dtype), x.x))


class CodeHead(nn.Linear):
    """(..., D) -> (..., G, V), Xavier-uniform weights."""

    def __init__(self, dim: int, books: int, codes: int) -> None:
        super().__init__(dim, books * codes)
        self.shape = (books, codes)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(-1, self.shape)
