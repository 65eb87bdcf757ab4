"""How alive representations, predictions and codes are: plain measures of tensors, in fp32 or fp64."""

import torch
from torch import Tensor

from research.nn.functional import histogram, perplexity

TINY = 1e-12


def variation(x: Tensor) -> Tensor:
    """Standard deviation over frames, averaged over channels: (N, C) -> scalar."""
    return x.float().std(0, correction=0).mean()


def relative_variation(x: Tensor) -> Tensor:
    """The same as a share of the root mean square: 0 where every frame is one and the same, at most 1. (N, C) -> scalar."""
    x = x.float()
    return x.var(0, correction=0).mean().sqrt() / x.square().mean().sqrt().clamp(min=TINY)


def rankme(x: Tensor, eps: float = 1e-7) -> Tensor:
    """Effective rank exp(H(p)) of p_k = s_k / sum(s) + eps, s the singular values (RankMe, arXiv 2210.02885, eq. 1).

    (N, C) -> scalar from 1 to min(N, C), NaN where something is not finite. Nothing is centred, as in the paper.
    """
    x = x.double()
    square = x @ x.T if x.size(0) < x.size(1) else x.T @ x  # (min(N, C), min(N, C))
    finite = square.isfinite().all()  # the decomposition of anything else is an error
    square = torch.where(finite, square, torch.eye(len(square), dtype=x.dtype, device=x.device))
    s = torch.linalg.eigvalsh(square).clamp(min=0).sqrt()  # (min(N, C),)
    p = s / s.sum().clamp(min=TINY) + eps
    return torch.where(finite, torch.exp(-(p * p.log()).sum()), torch.nan)


def gram(x: Tensor) -> Tensor:
    """Products of centred frames, scaled to norm 1: (N, C) -> (N, N). What linear CKA needs of a representation."""
    x = x.float()
    x = x - x.mean(0)
    products = x @ x.T  # (N, N)
    return products / products.norm().clamp(min=TINY)


def cka(one: Tensor, other: Tensor) -> Tensor:
    """Linear CKA of two representations of the same frames, by their `gram`s (arXiv 1905.00414): 1 equal, 0 unrelated."""
    return (one * other).sum()


def entropies(logits: Tensor) -> tuple[Tensor, Tensor]:
    """How unsure predictions are, and how many codes they are of: (M, G, V) -> two scalars.

    The first is the mean entropy of a prediction, as a share of log V. The second is the perplexity of the mean
    prediction: it falls to 1 where all frames are told the same code for sure, and is that of the targets where a model
    knows nothing but how common each code is.
    """
    logs = logits.float().log_softmax(-1)  # (M, G, V)
    p = logs.exp()
    entropy = -(p * logs).sum(-1).mean() / torch.log(torch.tensor(float(logits.size(-1)))).clamp(min=TINY)
    return entropy, perplexity(p.sum(0))


def dead(ids: Tensor, codes: int) -> Tensor:
    """Share of the codes that were not seen, of those that as many frames could show: (M, G) -> scalar."""
    seen = (histogram(ids, codes) > 0).sum(-1).float().mean()
    return 1 - seen / min(max(ids.size(0), 1), codes)
