"""The same question every time: same batches, same masks, same noise, whatever the step."""

from collections.abc import Iterable

import torch

from research.contracts import Batch, Stat
from research.training.seeds import seed_all
from research.training.stats import StatBag
from research.training.step import Student


@torch.no_grad()
def validate(student: Student, batches: Iterable[tuple[int, Batch]]) -> dict[str, float]:
    """Score numbered batches in eval mode; every target of every rank weighs the same."""
    bag = StatBag(student.ranks.device)
    student.task.eval()
    for number, batch in batches:
        seed_all("validation", number)
        loss = student.loss(batch)
        bag.add(loss.stats | {"loss": Stat(loss.total, loss.count)})
    student.task.train()
    return bag.pop(student.ranks.all_sum)
