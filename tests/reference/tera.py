"""TERA's reconstruction (arXiv 2007.06028) written frame by frame: slow, plain, nothing of hark's."""

import math

import torch


def reconstruct(h, head):
    """Linear, GELU, layer norm, linear: `head` has w1, b1, gain, shift, w2, b2."""
    a = head["w1"] @ h + head["b1"]
    a = a * 0.5 * (1 + torch.erf(a / math.sqrt(2)))
    a = (a - a.mean()) / (a.var(correction=0) + 1e-5).sqrt()
    return head["w2"] @ (a * head["gain"] + head["shift"]) + head["b2"]


def loss(frames, masks, outputs, head, *, stride):
    """L1 of masked frames, and how many there were. Frames (S, F), masks (S,) and outputs (T, D) per utterance."""
    total, count = torch.zeros(()), 0
    for x, mask, h in zip(frames, masks, outputs, strict=True):
        for s in range(len(x)):
            if not mask[s]:
                continue
            k = s % stride
            y = reconstruct(h[s // stride], head)[k * x.size(1) : (k + 1) * x.size(1)]
            total = total + (y - x[s]).abs().sum() / x.size(1)
            count += 1
    return total, count
