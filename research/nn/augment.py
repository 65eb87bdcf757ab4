"""Maths shared by augmentations: what is drawn is drawn on the host, for all rows at once."""

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Seq
from research.errors import HarkError


def chosen(prob: float, lengths: Tensor) -> Tensor:
    """The rows that an augmentation takes, each with probability `prob`: (B,) -> (K,). Empty rows are never taken."""
    return ((torch.rand(len(lengths)) < prob) & (lengths > 0)).nonzero()[:, 0]


def uniform(bounds: tuple[float, float], size: int) -> Tensor:
    low, high = bounds
    return low + (high - low) * torch.rand(size)  # (size,)


def check_prob(prob: float) -> None:
    """HarkError when it is no probability."""
    if not 0.0 <= prob <= 1.0:
        raise HarkError(f"augmentation.prob={prob:g}: a probability is between 0 and 1")


def check_range(name: str, bounds: tuple[float, float]) -> None:
    """HarkError when a range is upside down, or no pair."""
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        typed = ",".join(map(str, bounds))
        raise HarkError(f"augmentation.{name}=[{typed}]: give two numbers, the second not below the first")


def set_energy(x: Tensor, energy: Tensor) -> Tensor:
    """Rows scaled to a sum of squares: (K, N), (K,) -> (K, N). Silence stays silence."""
    own = x.square().sum(1)  # (K,)
    gain = torch.where(own > 0, (energy / own.clamp(min=1e-20)).sqrt(), 0.0)  # (K,)
    return x * gain[:, None]


def pool(*parts: Seq) -> Seq:
    """All rows of several batches in one: (B, N) and (B', N') -> (B + B', max(N, N')), zeros on the right."""
    size = max(part.x.size(1) for part in parts)
    wide = [F.pad(part.x, (0, size - part.x.size(1))) for part in parts]
    return Seq(torch.cat(wide), torch.cat([part.lengths for part in parts]))
