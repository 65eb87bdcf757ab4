"""Masks on the frames of a frontend, for supervised training."""

from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Seq
from research.errors import HarkError


@dataclass(kw_only=True)
class SpecAugment:
    """SpecAugment (arXiv 1904.08779, section 2) without time warping; every row draws masks of its own.

    A band of w features is masked, w drawn from 0 to `freq_width`, and so often as `freq_masks` says; likewise stretches
    of frames, each at most `time_width` long. Any place inside the row is as likely; masks may overlap.
    """

    freq_masks: int = 3
    freq_width: int = 4  # features
    time_masks: int = 5
    time_width: float = 0.05  # frames; below 1 it is a share of the row's valid frames
    value: float = 0.0  # what masked frames hold: the mean, where features are normalised

    def __post_init__(self) -> None:
        for name in ("freq_masks", "freq_width", "time_masks", "time_width"):
            if getattr(self, name) < 0:
                raise HarkError(f"{name}={getattr(self, name):g}: must not be below 0")

    def __call__(self, feats: Seq) -> Seq:
        """Give a new tensor: (B, S, F) -> (B, S, F). Lengths and padding stay as they are."""
        rows, size, dim = feats.x.shape
        share = self.time_width < 1
        longest = (feats.lengths * self.time_width).long() if share else int(self.time_width)
        time = stretches(feats.lengths, longest, self.time_masks, size)  # (B, S)
        band = stretches(torch.full((rows,), dim), self.freq_width, self.freq_masks, dim)  # (B, F)
        time, band = (mask.to(feats.x.device, non_blocking=True) for mask in (time, band))
        masked = (time[:, :, None] | band[:, None]) & feats.valid[..., None]  # (B, S, F)
        return feats.replace(feats.x.masked_fill(masked, self.value))


def stretches(lengths: Tensor, longest: Tensor | int, count: int, size: int) -> Tensor:
    """`count` stretches a row, 0 to `longest` long, inside its first `lengths`: (B,) -> bool (B, size)."""
    most = torch.minimum(lengths, torch.as_tensor(longest))[:, None]  # (B, 1)
    wide = (torch.rand(len(lengths), count) * (most + 1)).long()  # (B, J)
    start = (torch.rand(len(lengths), count) * (lengths[:, None] - wide + 1)).long()  # (B, J)
    place = torch.arange(size)  # (size,)
    inside = (place >= start[..., None]) & (place < (start + wide)[..., None])  # (B, J, size)
    return inside.any(1)
