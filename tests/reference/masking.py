"""Spans and hidden channels, one row and one span at a time."""

import torch


def starts(draw, spans, length, wanted):
    """The luckiest places whose span fits into a row of `length` frames: lists of one row -> places."""
    fit = [place for place in range(len(draw)) if place + spans[place] <= length]
    return sorted(fit, key=lambda place: draw[place])[: max(0, wanted)]


def span_mask(draw, spans, length, wanted):
    """Frames that the spans of a row cover: bool (S,)."""
    mask = torch.zeros(len(draw), dtype=torch.bool)
    for place in starts(draw, spans, length, wanted):
        mask[place : place + spans[place]] = True
    return mask


def hide_channels(x, length, places, width):
    """Zero spans of channels of one row (T, C), in its first `length` frames."""
    out = x.clone()
    for place in places:
        out[:length, place : place + width] = 0
    return out
