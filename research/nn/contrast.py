"""The contrastive loss of wav2vec 2.0 over rows with any number of masked frames."""

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Loss, Stat


def contrast(
    h: Tensor, y: Tensor, counts: Tensor, *, negatives: int, temperature: float, ids: Tensor | None = None
) -> Loss:
    """Tell the target of each masked frame from others of its row (arXiv 2006.11477, eq. 3), summed over frames.

    Predictions h and targets y are (M, C), row after row; `counts` (B,), on the host, is how many frames a row has.
    Distractors are drawn from the row's other frames, with replacement. Given the codes `ids` (M, G) of the targets,
    a distractor of the same codes as the target is left out; a frame without any distractor adds nothing.
    """
    row, place = places(counts)  # (M,)
    width = max(1, int(counts.max())) if len(counts) else 1
    device = h.device
    starts = torch.arange(len(row)) - place  # (M,) where the row of each frame begins
    others = (counts[row] - 1).to(device, non_blocking=True)[:, None]  # (M, 1)
    row, place, starts = (index.to(device, non_blocking=True) for index in (row, place, starts))
    with torch.autocast(device.type, enabled=False):
        grid = [spread(F.normalize(x.float(), dim=-1), row, place, len(counts), width) for x in (h, y)]
        cosine = (grid[0] @ grid[1].mT)[row, place] / temperature  # (M, width)
        drawn = draw(place, others, negatives).clamp(max=width - 1)  # (M, K)
        wrong = (others < 1).expand_as(drawn)  # (M, K)
        if ids is not None and len(ids):
            there = (starts[:, None] + drawn).clamp(max=len(ids) - 1)  # (M, K)
            wrong = wrong | (ids[there] == ids[:, None]).all(-1)
        away = cosine.gather(1, drawn).masked_fill(wrong, -torch.inf)  # (M, K)
        own = cosine.gather(1, place[:, None])  # (M, 1)
        total = (torch.cat([own, away], 1).logsumexp(1) - own[:, 0]).sum()
    return Loss(total, len(h), stats(own.detach(), away.detach(), wrong))


def draw(place: Tensor, others: Tensor, negatives: int) -> Tensor:
    """Places (M, K) of distractors in the row of each frame, which has `others` (M, 1) frames beside it."""
    drawn = (torch.rand(len(place), negatives, device=place.device) * others).long()  # (M, K)
    return drawn + (drawn >= place[:, None])  # a frame is no distractor of itself


def places(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Row of each frame, and its place in the row: (B,) -> (M,), (M,), on the host."""
    row = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return row, torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]


def spread(x: Tensor, row: Tensor, place: Tensor, rows: int, width: int) -> Tensor:
    """(M, C) -> (B, width, C), zeros where a row has fewer frames."""
    return x.new_zeros(rows, width, x.size(1)).index_put((row, place), x)


def stats(own: Tensor, away: Tensor, wrong: Tensor) -> dict[str, Stat]:
    """How often the target wins against all its distractors, and a guess would (frames without one are not asked)."""
    asked = ~wrong.all(1)  # (M,)
    won = (own[:, 0] > away.amax(1)) & asked
    guessed = asked / (1.0 + (~wrong).sum(1))  # (M,)
    return {
        "contrast_acc": Stat(torch.stack([won.sum(), asked.sum()]).float(), finish=ratio),
        "contrast_chance": Stat(torch.stack([guessed.sum(), asked.sum()]), finish=ratio),
        "distractors": Stat((~wrong).sum().float(), len(own)),
    }


def ratio(pair: Tensor) -> Tensor:
    return pair[0] / pair[1].clamp(min=1e-9)
