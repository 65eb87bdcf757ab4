"""Attentive statistics pooling, utterance by utterance and frame by frame, as written."""

import torch


def attentive(rows, hidden, bias, score):
    """Per utterance (T, C): arXiv 1803.10963, eq. 3 to 6, with f = tanh -> (B, 2 C)."""
    out = []
    for frames in rows:
        e = [score @ torch.tanh(hidden @ h + bias) for h in frames]  # eq. 3, one number per frame
        alphas = [torch.exp(one) / sum(map(torch.exp, e)) for one in e]  # eq. 4
        out.append(moments(frames, alphas))
    return torch.stack(out)


def context(rows, f, score):
    """Per utterance (T, C): arXiv 2005.07143, eq. 1 to 3 and section 3.1, f of a frame beside mean and deviation -> (B, 2 C)."""
    out = []
    for frames in rows:
        even = moments(frames, [torch.tensor(1 / len(frames), dtype=frames.dtype)] * len(frames))
        e = [score @ f(torch.cat([h, even])) for h in frames]  # eq. 1, one number per frame and channel
        alphas = [torch.exp(one) / sum(map(torch.exp, e)) for one in e]  # eq. 2
        out.append(moments(frames, alphas))
    return torch.stack(out)


def moments(frames, alphas):
    """Weighted mean and standard deviation: arXiv 1803.10963, eq. 5 and 6."""
    pairs = list(zip(alphas, frames, strict=True))
    mean = sum(alpha * h for alpha, h in pairs)
    variance = sum(alpha * h * h for alpha, h in pairs) - mean * mean
    return torch.cat([mean, variance.sqrt()])
