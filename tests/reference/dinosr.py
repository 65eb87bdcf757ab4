"""DinoSR (arXiv 2305.10005) frame by frame, for comparison: slow, plain, and nothing shared with hark."""

import torch


def normalized(layer):
    """Every channel of one utterance (T, D) with mean 0 and variance 1."""
    columns = []
    for d in range(layer.size(1)):
        values = [float(v) for v in layer[:, d]]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        columns.append(torch.tensor([(v - mean) / (variance + 1e-5) ** 0.5 for v in values]))
    return torch.stack(columns, 1)


def cluster(x, codebook):
    """Equation 1: the nearest codeword of x (D,) in (V, D)."""
    distances = [float((x - code).norm()) for code in codebook]
    return distances.index(min(distances))


def frame_loss(h, weight, bias, target):
    """Cross-entropy of one frame: h (D,) through a head (V, D), (V,)."""
    logits = weight @ h + bias
    return torch.logsumexp(logits, 0) - logits[target]


def loss(last, teacher, heads, codebooks, masked):
    """Equation 6 with a mean over layers: last (T, D) of one utterance, teacher K times (T, D), which frames (T,)."""
    total = torch.zeros(())
    for layer, (weight, bias), codebook in zip(teacher, heads, codebooks, strict=True):
        y = normalized(layer)
        for t in range(len(last)):
            if masked[t]:
                total = total + frame_loss(last[t], weight, bias, cluster(y[t], codebook))
    return total / len(teacher)


def kept(step, start=0.999, end=0.9999, steps=30_000, freeze=200_000):
    """What the teacher keeps of itself at a step: more and more, then everything."""
    if step > freeze:
        return 1.0
    return start + (end - start) * step / steps if step < steps else end
