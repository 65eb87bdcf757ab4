"""How far apart two stretches of frames are, whatever their speeds: dynamic time warping of many pairs at once."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

PAIRS = 4096  # at a time: bounds the memory of the (K, N, M) distances


def angles(x: Tensor, y: Tensor) -> Tensor:
    """Angles between unit vectors, as shares of a half turn: (K, N, D), (K, M, D) -> (K, N, M)."""
    return (x @ y.mT).clamp(-1, 1).acos() / torch.pi


def warp(cost: Tensor, n: Tensor, m: Tensor) -> Tensor:
    """Mean cost of a frame pair along the cheapest path: (K, N, M), of which n (K,) and m (K,) count -> (K,).

    A path goes from the first pair to the last in steps of one frame of either side or of both. That of the least sum
    is taken, of equal ones the one with more double steps, and its sum is divided by its length.
    """
    sums, steps = torch.full_like(cost, torch.inf), torch.zeros_like(cost)
    for i in range(cost.size(1)):
        for j in range(cost.size(2)):
            if i == j == 0:
                best, count = torch.zeros_like(cost[:, 0, 0]), torch.zeros_like(cost[:, 0, 0])
            else:
                places = [(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if min(a, b) >= 0]
                best, count = sums[:, *places[0]], steps[:, *places[0]]  # (K,)
                for a, b in places[1:]:
                    less = sums[:, a, b] < best
                    best = torch.where(less, sums[:, a, b], best)
                    count = torch.where(less, steps[:, a, b], count)
            sums[:, i, j], steps[:, i, j] = best + cost[:, i, j], count + 1
    last = torch.arange(len(n)), n - 1, m - 1
    return sums[last] / steps[last]


def distances(tokens: Sequence[Tensor], pairs: Tensor) -> Tensor:
    """Warped angular distances of pairs (K, 2) of tokens, each (T, D) -> (K,)."""
    unit = [F.normalize(x, dim=-1) for x in tokens]
    sizes = torch.tensor([len(x) for x in unit])[pairs]  # (K, 2)
    order = sizes.amax(1).argsort()  # pairs of like size together: little padding
    found = torch.empty(len(pairs))
    for rows in order.split(PAIRS):
        x, y = (pad_sequence([unit[i] for i in side], batch_first=True) for side in pairs[rows].T.tolist())
        found[rows] = warp(angles(x, y), *sizes[rows].T)  # x (K, N, D), y (K, M, D)
    return found
