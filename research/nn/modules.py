"""Small modules shared by objectives."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class CosineHead(nn.Module):
    """Frames against embeddings of codes, by angle: (..., D) -> (..., G, V) (HuBERT, arXiv 2106.07447, eq. 3).

    Each book has a projection of its own. In fp32 under any autocast.
    """

    def __init__(self, dim: int, books: int, codes: int, *, width: int, temperature: float) -> None:
        super().__init__()
        self.shape, self.temperature = (books, width), temperature
        self.project = nn.Linear(dim, books * width)
        self.codes = nn.Parameter(torch.rand(books, codes, width))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            frames = F.normalize(self.project(x.float()).unflatten(-1, self.shape), dim=-1)  # (..., G, P)
            cosine = torch.einsum("...gp,gvp->...gv", frames, F.normalize(self.codes, dim=-1))
            return cosine / self.temperature
