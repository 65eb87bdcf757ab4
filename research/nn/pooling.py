"""Frames of an utterance -> one vector. Padding has no weight; statistics are fp32 under any autocast."""

import torch
from torch import Tensor, nn

from research.contracts import Seq
from research.nn.norm import BatchNorm
from research.nn.tdnn import TDNN

FLOOR = 1e-7  # of a variance: the slope of its root stays finite where all frames are equal


def even(valid: Tensor) -> Tensor:
    """The same weight for every valid frame, of sum 1: bool (B, T) -> (B, T, 1)."""
    return (valid / valid.sum(1, keepdim=True).clamp(min=1))[..., None]


def softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Weights of sum 1 over the valid frames: (B, T, C), bool (B, T) -> (B, T, C). Rows without frames get zeros."""
    inside = valid[..., None]
    lowest = torch.finfo(torch.float32).min
    return scores.float().masked_fill(~inside, lowest).softmax(1) * inside


def statistics(x: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and standard deviation (arXiv 1803.10963, eq. 5 and 6): (B, T, C), (B, T, C or 1) -> (B, 2 C)."""
    x = x.float()
    centre = (weights * x).sum(1)  # (B, C)
    variance = (weights * (x - centre[:, None]).square()).sum(1)  # (B, C)
    return torch.cat([centre, variance.clamp(min=FLOOR).sqrt()], -1)


class AttentiveStatistics(nn.Module):
    """Mean and deviation of frames weighted by one learned score each (arXiv 1803.10963, eq. 3 to 6)."""

    def __init__(self, dim: int, attention: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, attention)
        self.score = nn.Linear(
            attention, 1, bias=False
        )  # one number added to all scores would change no weight

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, 2 C)."""
        scores = self.score(torch.tanh(self.hidden(x)))  # (B, T, 1)
        return statistics(x, softmax(scores, valid))


class ContextStatistics(nn.Module):
    """The same with a score per channel that also knows the utterance's mean and deviation (arXiv 2005.07143, eq. 1 to 3)."""

    def __init__(self, dim: int, attention: int) -> None:
        super().__init__()
        self.hidden = TDNN(3 * dim, attention)
        self.score = nn.Linear(attention, dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, 2 C)."""
        context = statistics(x, even(valid)).to(x.dtype)  # (B, 2 C)
        seen = torch.cat([x, context[:, None].expand(-1, x.size(1), -1)], -1)  # (B, T, 3 C)
        scores = self.score(torch.tanh(self.hidden(seen, valid)))  # (B, T, C)
        return statistics(x, softmax(scores, valid))


class Embedding(nn.Module):
    """Statistics with context, batch norm, and a linear layer: one vector per utterance (arXiv 2005.07143)."""

    def __init__(self, dim_in: int, attention: int, dim: int) -> None:
        super().__init__()
        self.pool = ContextStatistics(dim_in, attention)
        self.norm = BatchNorm(2 * dim_in)
        self.out = nn.Linear(2 * dim_in, dim)

    def forward(self, x: Seq, valid: Tensor) -> Seq:
        """(B, T, C), bool (B, T) -> (B, 1, E)."""
        pooled = self.pool(x.x, valid)[:, None]  # (B, 1, 2 C)
        return utterance(self.out(self.norm(pooled, valid.any(1, keepdim=True))), x)


def utterance(vectors: Tensor, of: Seq) -> Seq:
    """One vector per utterance, of length 0 where there were no frames."""
    return Seq(vectors, of.lengths.clamp(max=1))
