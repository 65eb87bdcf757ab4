"""Wav2vec 2.0 (arXiv 2006.11477) written frame by frame, for comparison: slow, plain, and nothing shared with hark."""

import math

import torch


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def contrastive_loss(h, y, rows, drawn, *, temperature, ids=None):
    """Equation 3, summed: h, y (M, C); rows: per frame its row; drawn: per frame the frames of its distractors."""
    total = torch.zeros(())
    for t in range(len(h)):
        assert all(rows[n] == rows[t] and n != t for n in drawn[t])
        kept = [n for n in drawn[t] if ids is None or ids[n].tolist() != ids[t].tolist()]
        own = cosine(h[t], y[t]) / temperature
        terms = [own, *(cosine(h[t], y[n]) / temperature for n in kept)]
        total = total - (own - torch.logsumexp(torch.stack(terms), 0))
    return total


def diversity_loss(logits):
    """(G V - sum over books of exp(entropy of the mean softmax)) / (G V): logits (M, G, V)."""
    _, books, codes = logits.shape
    used = torch.zeros(())
    for g in range(books):
        mean = torch.stack([row[g].softmax(0) for row in logits]).mean(0)
        used = used + torch.exp(-(mean * mean.log()).sum())
    return (books * codes - used) / (books * codes)


def straight_through_gradient(logits, noise, temperature, upstream):
    """Gradient of a loss to the logits of one choice, when `upstream` (V,) is its gradient to the one-hot vector.

    The hard choice passes the gradient of the soft one: d soft_i / d logit_j = soft_i ([i = j] - soft_j) / temperature.
    """
    scaled = [(float(x) + float(n)) / temperature for x, n in zip(logits, noise, strict=True)]
    top = max(scaled)
    weights = [math.exp(s - top) for s in scaled]
    soft = [w / sum(weights) for w in weights]
    return torch.tensor(
        [
            sum(float(upstream[i]) * soft[i] * ((i == j) - soft[j]) / temperature for i in range(len(soft)))
            for j in range(len(soft))
        ]
    )
