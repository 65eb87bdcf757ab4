"""SpidR (arXiv 2512.20308) frame by frame, for comparison: slow, plain, and nothing shared with hark."""

import math

import torch

from tests.reference.dinosr import cluster, frame_loss, normalized


def loss(student, teacher, heads, codebooks, masked):
    """Layer k of the student (T, D) predicts the clusters of layer k of the teacher (T, D), a mean over layers."""
    total = torch.zeros(())
    for own, layer, (weight, bias), codebook in zip(student, teacher, heads, codebooks, strict=True):
        y = normalized(layer)
        for t in range(len(own)):
            if masked[t]:
                total = total + frame_loss(own[t], weight, bias, cluster(y[t], codebook))
    return total / len(teacher)


def kept(step, start=0.999, timescale=20_000):
    """What the teacher keeps of itself at a step."""
    return 1 - (1 - start) * math.exp(-step / timescale)
