"""Targets that are vectors: how a teacher's layers become some, and how far predictions are from them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Loss, Stat


def instance_norm(x: Tensor, valid: Tensor, eps: float = 1e-5) -> Tensor:
    """Zero mean and unit (biased) variance of each channel over an utterance's frames (arXiv 1607.08022), in fp32.

    (B, T, C), bool (B, T) -> (B, T, C), zeros on padding.
    """
    x, inside = x.float(), valid[..., None].float()  # (B, T, C), (B, T, 1)
    count = inside.sum(1, keepdim=True).clamp(min=1)  # (B, 1, 1)
    centred = (x - (x * inside).sum(1, keepdim=True) / count) * inside
    return centred * (centred.square().sum(1, keepdim=True) / count + eps).rsqrt()


def regress(x: Tensor, y: Tensor, beta: float = 0.0) -> Loss:
    """Squared error of predictions x (M, D) from targets y (M, D), summed over frames and divided by sqrt(D), in fp32.

    With `beta` > 0 half the squared error, over `beta`, of what is no farther off; the absolute one of what is
    (arXiv 2202.03555, section 3.3). Beside it the `mse` of an element; always predicting the mean target would score
    `target_var`. Zero targets give a zero loss that still has a graph.
    """
    x, y = x.float(), y.float()
    m, d = x.shape
    if beta > 0:
        total = F.smooth_l1_loss(x, y, reduction="sum", beta=beta)
    else:
        total = F.mse_loss(x, y, reduction="sum")
    with torch.no_grad():
        stats = {
            "mse": Stat(F.mse_loss(x, y, reduction="sum"), m * d),
            "target_var": Stat(moments(y), m, variance),
            "pred_var": Stat(moments(x), m, variance),
        }
    return Loss(total / d**0.5, m, stats)


def moments(x: Tensor) -> Tensor:
    """Sums of every dimension and of its square: (M, D) -> (2, D)."""
    return torch.stack([x.sum(0), x.square().sum(0)])


def variance(means: Tensor) -> Tensor:
    """The variance of a dimension over frames, averaged over dimensions: means of x and x², (2, D) -> scalar."""
    return (means[1] - means[0].square()).clamp(min=0).mean()
