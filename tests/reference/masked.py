"""Masked prediction of random-projection codes (arXiv 2202.01855, 2408.13106) frame by frame: slow, plain, nothing shared."""

import torch


def stacked(x, t, r):
    """Frames t r to (t + 1) r of one row (S, F) side by side, zeros after its end."""
    frames = [x[s] if s < len(x) else torch.zeros_like(x[0]) for s in range(t * r, (t + 1) * r)]
    return torch.cat(frames)


def share_masked(mask, t, r):
    return sum(float(mask[s]) for s in range(t * r, (t + 1) * r) if s < len(mask)) / r


def code(x, projection, codebook):
    """Number of the row of `codebook` (V, C) nearest to the projected x, both of length 1."""
    y = x @ projection
    y = y / y.norm()
    distances = [float((y - c / c.norm()).square().sum()) for c in codebook]
    return distances.index(min(distances))


def cross_entropy(logits, wanted):
    return torch.log(torch.exp(logits - logits.max()).sum()) + logits.max() - logits[wanted]


def masked_prediction(hidden, feats, mask, r, threshold, *, projections, codebooks, head):
    """Summed loss and count: hidden (B, T, D), clean feats (B, S, F), mask (B, S); G projections and codebooks."""
    total, count = torch.zeros(()), 0
    for b in range(len(hidden)):
        for t in range(hidden.size(1)):
            if share_masked(mask[b], t, r) <= threshold:
                continue
            logits = head.weight @ hidden[b, t] + head.bias  # (G V,)
            x, codes = stacked(feats[b], t, r), len(codebooks[0])
            for g, (projection, codebook) in enumerate(zip(projections, codebooks, strict=True)):
                book = logits[g * codes : (g + 1) * codes]
                total = total + cross_entropy(book, code(x, projection, codebook)) / len(codebooks)
            count += 1
    return total, count
