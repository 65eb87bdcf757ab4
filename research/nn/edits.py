"""How far a decoded text is from the right one, computed where the scores are: nothing waits for the device."""

import torch
from torch import Tensor


def collapse(best: Tensor, valid: Tensor, blank: int) -> tuple[Tensor, Tensor]:
    """Greedy CTC: leave out repeats, then blanks. (B, T), bool (B, T) -> (B, T) texts first, lengths (B,)."""
    kept = (best != blank) & valid
    kept[:, 1:] &= best[:, 1:] != best[:, :-1]
    order = (~kept).to(torch.uint8).argsort(dim=1, stable=True)  # (B, T)
    return best.gather(1, order), kept.sum(1)


def edits(said: Tensor, sizes: Tensor, right: Tensor, lengths: Tensor) -> Tensor:
    """Levenshtein distances of (B, T), of `sizes` (B,), to (B, U), of `lengths` (B,) on the host: (B,)."""
    live = (torch.arange(right.size(1)) < lengths[:, None]).to(said.device, non_blocking=True)  # (B, U)
    place = torch.arange(said.size(1) + 1, device=said.device)  # (T + 1,)
    cost = place.expand(said.size(0), -1)  # (B, T + 1) of the first so many to none
    for u in range(right.size(1)):
        swapped = cost[:, :-1] + (said != right[:, u, None])  # (B, T)
        skipped = cost + 1  # (B, T + 1)
        best = torch.cat([skipped[:, :1], torch.minimum(swapped, skipped[:, 1:])], 1)  # (B, T + 1)
        added = (best - place).cummin(1).values + place  # (B, T + 1)
        cost = torch.where(live[:, u, None], added, cost)
    return cost.gather(1, sizes[:, None])[:, 0]
