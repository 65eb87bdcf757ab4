"""HuBERT's loss (arXiv 2106.07447, eq. 1 to 3) written frame by frame, for comparison: nothing shared with hark."""

import math

import torch


def log_probability(frame, label, head, temperature):
    """Log of equation 3: frame (D,), head: weight (P, D), bias (P,), codes (V, P)."""
    weight, bias, codes = head
    projected = weight @ frame + bias
    scores = [projected @ code / (projected.norm() * code.norm()) / temperature for code in codes]
    return scores[label] - torch.logsumexp(torch.stack(scores), 0)


def loss(h, labels, mask, lengths, head, *, temperature, alpha=1.0):
    """Equation 2, negated: h (B, T, D), labels (B, T), mask (B, T), lengths (B,) of frames that have labels.

    head: weight, bias and codes. Gives the sum and how many frames it is over.
    """
    total, count = torch.zeros(()), 0
    for row, length in enumerate(lengths):
        for t in range(length):
            weight = alpha if mask[row][t] else 1 - alpha
            if weight > 0:
                total = total - weight * log_probability(h[row, t], labels[row][t], head, temperature)
                count += 1
    return total, count


def nearest(frame, codes):
    """The label of a frame: its nearest centroid."""
    distances = [math.dist(frame.tolist(), code.tolist()) for code in codes]
    return distances.index(min(distances))
