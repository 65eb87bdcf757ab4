"""Targets of supervised tasks, and what is counted of the answers."""

import torch
from torch import Tensor

from research.contracts import Loss, Seq, Stat
from research.nn.functional import select


def pairs(h: Seq, labels: Seq) -> tuple[Tensor, Tensor]:
    """Vectors and the label of each, of all rows: (B, U, E), (B, U', 1) -> (M, E), (M,). What has only one is left out."""
    size = min(h.x.size(1), labels.x.size(1))
    lengths = torch.minimum(h.lengths, labels.lengths)  # (B,)
    both = torch.arange(size) < lengths[:, None]  # (B, U)
    return select(h.x[:, :size], both), select(labels.x[:, :size], both)[:, 0]


def summed(losses: Tensor, scores: Tensor, labels: Tensor) -> Loss:
    """Sum losses (M,) over the targets; the largest of scores (M, K) is the answer that `labels` (M,) judge."""
    m, classes = scores.shape
    with torch.no_grad():
        hit = (scores.argmax(-1) == labels).float()  # (M,)
        tally = torch.zeros(2, classes, device=scores.device)  # (2, K): hits, occurrences
        tally.index_add_(1, labels, torch.stack([hit, torch.ones_like(hit)]))
        stats = {
            "acc": Stat(hit.sum(), m),
            "macro_acc": Stat(tally, finish=macro),
            "error": Stat(m - hit.sum(), m),
        }
    return Loss(losses.sum(), m, stats)


def macro(tally: Tensor) -> Tensor:
    """Mean accuracy of the classes that occurred: hits and occurrences (2, K) -> scalar. 0 when none did."""
    hits, occurrences = tally
    seen = occurrences > 0  # (K,)
    share = hits / torch.where(seen, occurrences, 1)  # (K,)
    return (share * seen).sum() / seen.sum().clamp(min=1)
