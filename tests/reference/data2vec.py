"""Data2vec (arXiv 2202.03555) written frame by frame, for comparison: slow, plain, and nothing shared with hark."""

import torch


def instance_norm(frames, eps=1e-5):
    """Each channel of one utterance by itself: (T, D) -> (T, D)."""
    columns = []
    for channel in frames.T:
        mean = sum(channel) / len(channel)
        var = sum((value - mean) ** 2 for value in channel) / len(channel)
        columns.append((channel - mean) / torch.sqrt(var + eps))
    return torch.stack(columns, dim=1)


def targets(layers):
    """Mean of the normalised top layers of one utterance: list of (T, D) -> (T, D)."""
    total = torch.zeros_like(layers[0])
    for layer in layers:
        total = total + instance_norm(layer)
    return total / len(layers)


def regression(predictions, wanted, beta=0.0):
    """Loss summed over frames: (M, D), (M, D) -> scalar, each frame over the root of its width."""
    total = torch.zeros(())
    for x, y in zip(predictions, wanted, strict=True):
        for a, b in zip(x, y, strict=True):
            off = abs(a - b)
            if beta == 0:
                total = total + off**2 / len(x) ** 0.5
            elif off < beta:
                total = total + 0.5 * off**2 / beta / len(x) ** 0.5
            else:
                total = total + (off - 0.5 * beta) / len(x) ** 0.5
    return total


def loss(outputs, layers, masks, head, beta=0.0):
    """Sum over the masked frames of all utterances.

    outputs: per utterance what the student gives (T, D); layers: per utterance the teacher's top layers, each (T, D);
    masks: per utterance the frames that are masked; head: weight and bias of the last linear layer.
    """
    (weight, bias), total = head, torch.zeros(())
    for h, top, masked in zip(outputs, layers, masks, strict=True):
        y = targets(top)
        for t in masked:
            total = total + regression([weight @ h[t] + bias], [y[t]], beta)
    return total


def follow(teacher, student, keep):
    """One step of the moving average, tensor by tensor."""
    return {name: keep * value + (1 - keep) * student[name] for name, value in teacher.items()}
