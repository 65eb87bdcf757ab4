"""The same question every time: same batches, same masks, same noise, whatever the step."""

from collections.abc import Iterable, Iterator

import torch

from research.contracts import Batch, Stat
from research.engine.gangs import Ranks
from research.training.seeds import seed_all
from research.training.stats import StatBag
from research.training.step import Student


@torch.no_grad()
def validate(student: Student, batches: Iterable[tuple[int, Batch]]) -> dict[str, float]:
    """Score numbered batches in eval mode; every target of every rank weighs the same. Every rank has at least one."""
    bag = StatBag(student.ranks.device)
    student.task.eval()
    for number, batch, own in together(batches, student.ranks):
        seed_all("validation", number)
        loss = student.loss(batch)
        if own:
            bag.add(loss.stats | {"loss": Stat(loss.total, loss.count)})
    student.task.train()
    return bag.pop(student.ranks.all_sum)


def together(batches: Iterable[tuple[int, Batch]], ranks: Ranks) -> Iterator[tuple[int, Batch, bool]]:
    """Go on while any rank has a batch, for ranks that share a model gather it together.

    One that has none left gives its last again, and False: it is not to be counted twice.
    """
    mine = iter(batches)
    one = next(mine, None)
    last = one
    while anyone(ranks, has=one is not None):
        last = one or last
        assert last is not None
        yield *last, one is not None
        one = next(mine, None)


def anyone(ranks: Ranks, *, has: bool) -> bool:
    """Whether any rank has something left."""
    if ranks.size == 1:
        return has
    count = torch.tensor(float(has), device=ranks.device)
    ranks.all_sum(count)
    return count.item() > 0
