"""Maths shared by objectives. Plain functions: no config, no registry."""

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Codes, Loss, Seq, Stat

BLOCK = 128  # codes


def stack(x: Tensor, r: int) -> Tensor:
    """Group r consecutive frames, the tail filled with zeros: (B, S, ...) -> (B, ceil(S / r), r * ...)."""
    missing = -x.size(1) % r
    x = F.pad(x, (0,) * (2 * (x.ndim - 2)) + (0, missing))  # (B, T * r, ...)
    return x.unflatten(1, (-1, r)).flatten(2)  # (B, T, r * ...)


def select(x: Tensor, mask: Tensor) -> Tensor:
    """The frames that a mask on the host marks: (B, T, C), (B, T) -> (M, C). No device is waited for."""
    rows = mask.flatten().nonzero()[:, 0]  # (M,)
    return x.flatten(0, 1).index_select(0, rows.to(x.device, non_blocking=True))


def perplexity(p: Tensor) -> Tensor:
    """Give exp(entropy), averaged over books: weights (G, V) -> scalar. Weights need not sum to 1."""
    p = p / p.sum(-1, keepdim=True).clamp(min=1e-9)
    return torch.exp(-(p * (p + 1e-9).log()).sum(-1)).mean()


def usage(p: Tensor) -> Tensor:
    """Share of codes that were seen at all, averaged over books: (G, V) -> scalar."""
    return (p > 0).float().mean()


def commonest(p: Tensor) -> Tensor:
    """Share of the commonest code, averaged over books: what always guessing it would score, (G, V) -> scalar."""
    return (p.amax(-1) / p.sum(-1).clamp(min=1e-9)).mean()


def histogram(ids: Tensor, codes: int) -> Tensor:
    """How often each code of each book occurs: (M, G) -> (G, V)."""
    shifted = ids + codes * torch.arange(ids.size(1), device=ids.device)  # (M, G)
    counts = torch.zeros(ids.size(1) * codes, device=ids.device)
    ones = torch.ones(ids.numel(), device=ids.device)
    return counts.index_add_(0, shifted.flatten(), ones).unflatten(0, (ids.size(1), codes))


def likeliest(scores: Tensor) -> Tensor:
    """`argmax` over codes, the first of equals: (..., V) -> (...).

    Among many codes a CPU finds it far faster by blocks: maxima are computed in full width, their places are not.
    """
    if scores.size(-1) < 4096 or scores.size(-1) % BLOCK:
        return scores.argmax(-1)
    blocks = scores.unflatten(-1, (-1, BLOCK))  # (..., V / BLOCK, BLOCK)
    block = blocks.amax(-1).argmax(-1)  # (...)
    inside = torch.take_along_dim(blocks, block[..., None, None], -2)[..., 0, :].argmax(-1)  # (...)
    return block * BLOCK + inside


def masked_ce(logits: Tensor, ids: Tensor) -> Loss:
    """Cross-entropy summed over masked frames, averaged over books: logits (M, G, V), ids (M, G).

    In fp32 whatever the compute dtype. Zero targets give a zero loss that still has a graph.
    """
    logits = logits.float()
    total = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="sum") / ids.size(1)
    return told(total, likeliest(logits.detach()), ids, logits.size(-1))


@torch.no_grad()
def told(total: Tensor, best: Tensor, ids: Tensor, codes: int) -> Loss:
    """A summed loss with what can be said of likeliest codes and targets, (M, G) each, of `codes` codes."""
    m = len(ids)
    targets, predictions = histogram(ids, codes), histogram(best, codes)  # (G, V)
    stats = {
        "acc": Stat((best == ids).float().mean(-1).sum(), m),
        "target_ppl": Stat(targets, finish=perplexity),
        "pred_ppl": Stat(predictions, finish=perplexity),
        "usage": Stat(targets, finish=usage),
        "unigram_acc": Stat(targets, finish=commonest),
    }
    return Loss(total, m, stats)


def penalize(loss: Loss, codes: Codes, weight: float) -> Loss:
    """Add the quantizer's penalty, where it has one, times the number of targets."""
    if codes.penalty is None:
        return loss
    penalty, n = codes.penalty * loss.count, loss.count
    return loss.plus(Loss(penalty, n, {"penalty": Stat(penalty.detach(), n)}), weight)


def feature_penalty(loss: Loss, feats: Seq, r: int, hit: Tensor, weight: float) -> Loss:
    """Add the mean square of a trained frontend's features (B, S, F), over the targets' frames: bool (B, T)."""
    features = select(stack(feats.x, r), hit).float()  # (M, r * F)
    square = features.square().mean(-1).sum()
    stat = Stat(square.detach(), loss.count)
    return loss.plus(Loss(square, loss.count, {"feature_penalty": stat}), weight)


def mean(x: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid frames, in fp32: (B, T, C), bool (B, T) -> (B, C). Zero for rows without frames."""
    count = valid.sum(1, keepdim=True).clamp(min=1)  # (B, 1)
    return (x * valid[..., None]).sum(1, dtype=torch.float) / count


def silence(x: Seq, mask: Tensor) -> Seq:
    """Put zeros on masked frames: (B, T, C), bool (B, T) on the host -> (B, T, C)."""
    mask = mask.to(x.x.device, non_blocking=True)
    return x.replace(x.x.masked_fill(mask[..., None], 0.0))


def noise(x: Seq, mask: Tensor, std: float) -> Seq:
    """Put fresh Gaussian noise on masked frames: (B, T, C), bool (B, T) on the host -> (B, T, C)."""
    mask = mask.to(x.x.device, non_blocking=True)
    return x.replace(torch.where(mask[..., None], std * torch.randn_like(x.x), x.x))


def mask_ratio(mask: Tensor, lengths: Tensor) -> dict[str, Stat]:
    """The share of all frames that is masked, to be logged: bool (B, T), (B,), both on the host."""
    return {"mask_ratio": Stat(torch.tensor(float(mask.sum())), float(lengths.sum()))}
