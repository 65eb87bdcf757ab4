"""Additive angular margin (ArcFace, arXiv 1801.07698, eq. 3), row by row, as written."""

import math

import torch


def loss(x, weight, labels, scale, margin):
    """Vectors (M, E), class directions (K, E), labels (M,) -> the sum over rows of -log of eq. 3's fraction."""
    total = x.new_zeros(())
    for vector, label in zip(x, labels.tolist(), strict=True):
        terms = []
        for k, direction in enumerate(weight):
            cosine = (vector / vector.norm()) @ (direction / direction.norm())
            if k == label:
                angle = torch.acos(cosine)
                # past half a turn the paper's code takes margin * sin(margin) from the cosine instead
                beyond = float(angle.detach()) + margin > math.pi
                cosine = cosine - margin * math.sin(margin) if beyond else torch.cos(angle + margin)
            terms.append(torch.exp(scale * cosine))
        total = total - torch.log(terms[label] / sum(terms))
    return total
