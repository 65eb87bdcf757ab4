"""Small modules shared by objectives."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Loss, Seq
from research.nn.functional import masked_ce
from research.nn.linear import Linear
from research.nn.linear_ce import linear_ce


class MaskToken(nn.Module):
    """Put one vector on masked frames, learned or (as NEST) fixed at its random start."""

    def __init__(self, dim: int, *, learned: bool = True, std: float = 0.1) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.randn(dim) * std, requires_grad=learned)

    def forward(self, x: Seq, mask: Tensor) -> Seq:  # x (B, T, C), mask (B, T) on the host
        mask = mask.to(x.x.device, non_blocking=True)
        return x.replace(torch.where(mask[..., None], self.vector.to(x.x.dtype), x.x))


class CodeHead(Linear):
    """(..., D) -> (..., G, V), Xavier-uniform weights."""

    def __init__(self, dim: int, books: int, codes: int) -> None:
        super().__init__(dim, books * codes)
        self.shape = (books, codes)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Any:
        """Give logits or, where codes are given, their `cross_entropy`."""
        if ids is None:
            return super().forward(x).unflatten(-1, self.shape)
        return linear_ce(x, self.weight, self.bias, ids)

    def cross_entropy(self, x: Tensor, ids: Tensor) -> Loss:
        """`masked_ce` of the logits, of which few exist at a time: (M, D), (M, G)."""
        loss: Loss = self(x, ids)  # a call, for ranks that share a model have its weights only then
        return loss


class CosineHead(nn.Module):
    """Frames against embeddings of codes, by angle: (..., D) -> (..., G, V) (HuBERT, arXiv 2106.07447, eq. 3).

    Each book has a projection of its own. In fp32 under any autocast.
    """

    def __init__(self, dim: int, books: int, codes: int, *, width: int, temperature: float) -> None:
        super().__init__()
        self.shape, self.temperature = (books, width), temperature
        self.project = Linear(dim, books * width)
        self.codes = nn.Parameter(torch.rand(books, codes, width))

    def forward(self, x: Tensor, ids: Tensor | None = None) -> Any:
        """Give logits or, where codes are given, their `cross_entropy`."""
        with torch.autocast(x.device.type, enabled=False):
            frames = F.normalize(self.project(x.float()).unflatten(-1, self.shape), dim=-1)  # (..., G, P)
            frames, codes = frames / self.temperature, F.normalize(self.codes, dim=-1)
            if ids is not None and len(codes) == 1:
                return linear_ce(frames[:, 0], codes[0], None, ids)
            logits = torch.einsum("...gp,gvp->...gv", frames, codes)
            return logits if ids is None else masked_ce(logits, ids)

    def cross_entropy(self, x: Tensor, ids: Tensor) -> Loss:
        """`masked_ce` of the logits, of which, with one book, few exist at a time: (M, D), (M, G)."""
        loss: Loss = self(x, ids)
        return loss
