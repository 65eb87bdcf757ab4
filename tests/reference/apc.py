"""Autoregressive predictive coding (arXiv 1904.03240) written utterance by utterance: slow, plain, nothing of hark's."""

import torch


def loss(frames, outputs, weight, bias, *, stride, ahead, shift):
    """L1 between what each output predicts and the frames `ahead` + `shift` outputs later, and how many were predicted.

    frames: per utterance (S, F); outputs: per utterance (T, D), one for `stride` frames.
    """
    total, count = torch.zeros(()), 0
    for x, h in zip(frames, outputs, strict=True):
        for t in range(len(h)):
            begin = (t + ahead + shift) * stride
            if begin + stride > len(x):
                continue
            predicted = weight @ h[t] + bias
            for k in range(stride):
                one = predicted[k * x.size(1) : (k + 1) * x.size(1)]
                total = total + (one - x[begin + k]).abs().sum() / (stride * x.size(1))
            count += 1
    return total, count
