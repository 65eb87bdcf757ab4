"""The decoder of data2vec 2.0 (arXiv 2212.07525) and its masks, one frame at a time; nothing shared with hark."""

import torch
from torch.nn import functional as F


def kept_frames(frames, masked):
    """What the encoder reads of one utterance: (T, D) -> (K, D)."""
    return torch.stack([frame for t, frame in enumerate(frames) if t not in masked])


def with_gaps(encoded, masked, size, gap):
    """What the decoder reads of one utterance: `gap` (D,) stands where a frame was masked: (K, D) -> (T, D)."""
    left = list(encoded)
    return torch.stack([gap if t in masked else left.pop(0) for t in range(size)])


def convolution(frames, weight, bias, groups):
    """Grouped, zeros outside: (T, C), weight (P, C / groups, K) -> (T, P)."""
    width, size = weight.size(2), len(frames)
    rows = []
    for t in range(size):
        outputs = []
        for p in range(len(weight)):
            group = p // (len(weight) // groups)
            first = group * weight.size(1)
            value = bias[p]
            for k in range(width):
                at = t + k - width // 2
                if 0 <= at < size:
                    value = value + frames[at, first : first + weight.size(1)] @ weight[p, :, k]
            outputs.append(value)
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


def decode(frames, convolutions, out, groups):
    """Predictions for every frame of one utterance: (T, D) -> (T, D); `convolutions`, `out`: (weight, bias)."""
    y = frames
    for weight, bias in convolutions:
        z = convolution(y, weight, bias, groups)
        z = (z - z.mean(1, keepdim=True)) / torch.sqrt(z.var(1, keepdim=True, unbiased=False) + 1e-5)
        z = F.gelu(z)
        y = y + z if y.shape == z.shape else z
    weight, bias = out
    return y @ weight.T + bias
