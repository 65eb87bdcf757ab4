"""Criteria by themselves: the loss as a sum, scores, learning."""

from typing import Any

import torch
from torch import nn

from research.conformance.case import CLASSES, Case, littered
from research.conformance.downstream import LENGTHS, frames, inputs, made, targets
from research.conformance.loss import Score, logged, score, shapes
from research.conformance.rules import Broken
from research.contracts import Loss, Seq
from research.downstream import Criterion

STEPS = 60


def loss_is_a_sum(case: Case) -> None:
    """Loss, count, gradients and stats of a batch are the sums of those of its halves.

    Micro-batches and ranks are added up and divided once by all labels: results would depend on how a
    batch was cut.
    """
    plugin: Criterion = made(case).eval()
    h, labels = inputs(plugin)
    whole, halves = (
        scored(plugin, [(h, labels)]),
        scored(plugin, [rows(h, labels, 0, 2), rows(h, labels, 2, 4)]),
    )
    if whole.loss.count != int(labels.lengths.sum()):
        raise Broken(
            f"the count of {int(labels.lengths.sum())} labels is {whole.loss.count}: give their number"
        )
    if difference := halves.differs_from(whole):
        raise Broken(f"of two halves {difference} of the whole: sum over labels, let no row see another")
    values = logged(whole.loss)
    for name, value in logged(halves.loss).items():
        if abs(value - values[name]) > 1e-3 * abs(value) + 1e-6:
            raise Broken(
                f"the stat '{name}' of two halves is {value:.6g}, of the whole {values[name]:.6g}: give a sum and its "
                "weight, and leave what is not linear to `finish`"
            )


def padding_changes_nothing(case: Case) -> None:
    """Rows with garbage after their vectors and labels give what they give one by one.

    A row's neighbours in the batch decide its padding: it would learn other things beside longer ones.
    """
    plugin: Criterion = made(case).eval()
    h, labels = inputs(plugin)
    wider = torch.randint(CLASSES, (len(LENGTHS), labels.x.size(1) + 7, 1))
    inside = torch.arange(wider.size(1)) < labels.lengths[:, None]
    wider[inside] = labels.x[labels.valid]
    padded = scored(plugin, [(littered(h, 9), labels.replace(wider))])
    alone = scored(plugin, [rows(h, labels, row, row + 1) for row in range(len(LENGTHS))])
    if difference := padded.differs_from(alone):
        raise Broken(
            f"in one padded batch {difference} of the same rows alone: read nothing past the lengths"
        )


def rows(h: Seq, labels: Seq, first: int, end: int) -> tuple[Seq, Seq]:
    """Some rows as a batch of their own, no wider than they need."""
    some = [Seq(s.x[first:end, : int(s.lengths[first:end].max())], s.lengths[first:end]) for s in (h, labels)]
    return some[0], some[1]


class Paired(nn.Module):
    """A criterion that takes vectors and labels as one argument, as a model takes a batch."""

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, batch: tuple[Seq, Seq]) -> Loss:
        loss: Loss = self.criterion(*batch)
        return loss


def scored(plugin: Criterion, batches: Any) -> Score:
    model: Any = Paired(plugin)
    return score(model, batches)


def scores_are_as_promised(case: Case) -> None:
    """Scores are fp32 (B, U, classes), with one more, the blank, where the task aligns labels.

    Predictions, trials and the decoder read them.
    """
    plugin: Criterion = made(case).eval()
    out = plugin.scores(frames(LENGTHS))
    wanted = (len(LENGTHS), max(LENGTHS), CLASSES + plugin.frames)
    if out.shape != wanted or out.dtype != torch.float32:
        raise Broken(f"scores are {tuple(out.shape)} {out.dtype}: {wanted} torch.float32 is promised")


def stats_keep_names(case: Case) -> None:
    """Every batch gives the same stats, of the same shape; those of no label are finite numbers.

    Ranks add up their stats in one call, and wait for ever for one that a rank does not give.
    """
    plugin: Criterion = made(case)
    known = shapes(plugin(*inputs(plugin)))
    unlabelled = Seq(torch.zeros(2, 1, 1, dtype=torch.long), torch.zeros(2, dtype=torch.long))
    for what, loss in {
        "one row": plugin(*inputs(plugin, (5,))),
        "two empty rows": plugin(*inputs(plugin, (0, 0))),
        "a batch without labels": plugin(frames((9, 5)), unlabelled),
    }.items():
        if shapes(loss) != known:
            raise Broken(
                f"{what}: the stats are {shapes(loss)}, of a full batch {known}: give all of them every time"
            )
        for name, value in logged(loss).items():
            if not torch.isfinite(torch.tensor(value)):
                raise Broken(
                    f"the stat '{name}' of {what} is {value}, no number for metrics.jsonl: leave the division to the loop, by the stat's weight"
                )
        check_unlabelled(what, loss)


def check_unlabelled(what: str, loss: Loss) -> None:
    if loss.count == 0 and float(loss.total.detach()) != 0:
        raise Broken(
            f"{what}: a loss of {float(loss.total.detach()):.4g} without a label: leave such rows out"
        )


def learning_pays(case: Case) -> None:
    """Sixty steps make the loss of a batch lower; where every vector has a label, the largest score becomes it.

    A detached loss or a wrong sign looks like any other run for hours.
    """
    torch.manual_seed(0)
    plugin: Criterion = made(case).train()
    h, labels = frames((6, 6)), targets(plugin, (6, 6))
    optimizer = torch.optim.Adam(plugin.parameters(), lr=0.05)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = plugin(h, labels)
        losses.append(float(loss.total.detach()))
        if loss.total.requires_grad:
            loss.total.backward()
        optimizer.step()
    if not losses[-1] < 0.8 * losses[0]:
        raise Broken(
            f"the loss was {losses[0]:.4g} and is {losses[-1]:.4g} after {STEPS} steps: is it detached?"
        )
    right = plugin.scores(h).argmax(-1) == labels.x[..., 0] if not plugin.frames else torch.ones(1)
    if right.float().mean() < 0.9:
        raise Broken(
            "after learning, the largest score is not the label: `scores` says something else than the loss"
        )
