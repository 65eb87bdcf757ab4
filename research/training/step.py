"""One optimizer step: what every method goes through, whatever its loss."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from research.config import Precision, Training
from research.contracts import Augmentation, Batch, Loss, Stat, Task
from research.engine.gangs import Ranks
from research.engine.parallel import begin_sum, no_sync
from research.training.adamw import AdamW
from research.training.data import Fed
from research.training.optimizer import end_step, scale_gradients, set_lr
from research.training.seeds import seed_all
from research.training.stats import StatBag


@dataclass
class Student:
    """The model with all that a step needs of it."""

    task: Task
    model: nn.Module  # the task itself, or DDP around it
    augment: Augmentation
    optimizer: AdamW
    ranks: Ranks
    cfg: Training
    lr_factor: float = 1.0  # on the learning rate: what rollbacks made of it

    def autocast(self) -> AbstractContextManager[object]:
        on = self.cfg.train.precision is Precision.bf16
        return torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=on)

    def loss(self, batch: Batch) -> Loss:
        """Augment and score a batch; the caller has seeded the generators."""
        batch = batch.to(self.ranks.device)
        with torch.no_grad():
            batch = self.augment(batch)
        with self.autocast():
            loss: Loss = self.model(batch)
        return loss


@dataclass
class Outcome:
    """What every rank knows after a step."""

    sound: bool  # loss and gradients were finite, the weights have moved
    stop: bool  # some rank was asked to stop
    seconds: float  # of audio, over all ranks
    loss: float  # mean over all targets
    grad_norm: float


def train_step(student: Student, batches: Iterator[Fed], step: int, bag: StatBag, *, stop: bool) -> Outcome:
    """Do step number `step` (from 0). Nothing moves when the loss or a gradient is not finite.

    Gradients are summed over micro-batches and ranks and divided once, by the global number of targets, so that
    two ranks, two micro-batches and one big batch weigh every target alike.
    """
    cfg, ranks = student.cfg, student.ranks
    targets, seconds, total = 0, 0.0, torch.zeros((), device=ranks.device)
    stats: list[dict[str, Stat]] = []
    share = cfg.train.share(ranks.size)
    for micro in range(share):
        last = micro == share - 1
        fed = next(batches)
        seed_all(cfg.run.seed, step, micro * ranks.size + ranks.rank)
        with no_sync(student.model, active=not last):
            loss = student.loss(fed.batch)
            targets, seconds, total = targets + loss.count, seconds + fed.seconds, total + loss.total.detach()
            if last:  # only gradients are missing: the ranks add up the rest meanwhile
                sums = tally(targets, seconds, float(stop), total)
                finish = begin_sum(sums, ranks)
            loss.total.backward()
        stats.append(loss.stats | {"loss": Stat(loss.total, loss.count), "padding": fed.padding})
    peak = cfg.optimizer.lr * student.lr_factor
    lr = set_lr(student.optimizer, peak, cfg.schedule, step, cfg.train.steps)
    finish()
    norm = scale_gradients(student.optimizer, sums[0].clamp(min=1), cfg.train.clip)
    outcome = read_back(norm, sums)
    if outcome.sound:
        student.optimizer.step()
        end_step(student.task, step + 1)
        for each in [*stats, {"grad_norm": Stat(norm), "lr": Stat(torch.tensor(lr))}]:
            bag.add(each)
    student.optimizer.zero_grad()
    return outcome


def tally(targets: int, seconds: float, stop: float, total: Tensor) -> Tensor:
    """What is summed over the ranks: (4,) on the device, for which nobody waits."""
    known = torch.tensor([targets, seconds, stop], dtype=torch.float64)
    return torch.cat([known.to(total.device, non_blocking=True), total[None]])


def read_back(norm: Tensor, sums: Tensor) -> Outcome:
    """Wait for the backward pass, once a step and in one read, before any weight moves."""
    targets, seconds, stop, total, norm_value = torch.cat([sums, norm[None]]).tolist()
    sound = math.isfinite(norm_value) and math.isfinite(total)
    return Outcome(sound, stop > 0, seconds, total / max(targets, 1.0), norm_value)
