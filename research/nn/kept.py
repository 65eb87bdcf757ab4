"""Encode only the frames that a mask leaves, as masked autoencoders do (arXiv 2111.06377, section 3)."""

import torch
from torch import Tensor

from research.contracts import Seq


def kept(x: Seq, mask: Tensor) -> Seq:
    """The frames that a mask on the host leaves, moved together: (B, T, C), bool (B, T) -> (B, K, C)."""
    hidden = mask | (torch.arange(mask.size(1)) >= x.lengths[:, None])  # (B, T)
    lengths = (~hidden).sum(1)  # (B,)
    order = hidden.int().argsort(dim=1, stable=True)  # (B, T)
    return Seq(take(x.x, order[:, : max(1, int(lengths.max()))]), lengths)


def put_back(x: Tensor, mask: Tensor) -> Tensor:
    """Where `kept` took its frames from: (B, K, C), bool (B, T) -> (B, T, C). Others hold anything."""
    place = (~mask).cumsum(1) - 1  # (B, T)
    return take(x, place.clamp(0, x.size(1) - 1))


def take(x: Tensor, frames: Tensor) -> Tensor:
    """Some frames of each row, numbered on the host: (B, T, C), (B, K) -> (B, K, C)."""
    index = frames.to(x.device, non_blocking=True)[..., None]  # (B, K, 1)
    return x.gather(1, index.expand(-1, -1, x.size(2)))
