"""The loss: a sum over its targets that padding and batching do not change."""

from collections.abc import Sequence

import torch
from torch import Tensor

from research.conformance.case import Case, littered, part, speech
from research.conformance.rules import Broken
from research.conformance.tools import Blank, Fixed, Still, close, gradients, replace_masking
from research.contracts import Batch, Loss, Objective
from research.training.data import silence
from research.training.stats import StatBag

CHANCE = "with dropout and batch statistics off, a mask that depends on the row's length only, and one random number"


def steady(case: Case) -> Objective:
    """A model in which a row's loss depends on the row only."""
    model = case.model().eval()
    replace_masking(model, Fixed())
    return model


def loss_is_a_sum(case: Case) -> None:
    """Loss, count, gradients and stats of a batch are the sums of those of its halves."""
    model = steady(case)
    whole = speech(model, (1.2, 0.9, 0.7, 0.5))
    together, wanted = score(model, [whole])
    apart, got = score(model, [part(whole, [0, 1]), part(whole, [2, 3])])
    if together.count <= 0:
        raise Broken(
            f"the count of a masked batch is {together.count}: give the number of targets, as an int"
        )
    if apart.count != together.count:
        raise Broken(
            f"the counts of two halves add up to {apart.count}, the whole has {together.count}: count the targets"
        )
    if not close(apart.total, together.total):
        raise Broken(
            f"the losses of two halves add up to {float(apart.total):.6g}, the whole has {float(together.total):.6g} "
            f"({CHANCE}): sum over targets, never average, let no row see another"
        )
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    for name, grad in wanted.items():
        if not close(got[name], grad, largest):
            raise Broken(f"the gradient of {name} is not the sum of those of two halves ({CHANCE})")
    values = logged(together)
    for name, value in logged(apart).items():
        if abs(value - values[name]) > 1e-3 * abs(value) + 1e-6:
            raise Broken(
                f"the stat '{name}' of two halves is {value:.6g}, of the whole {values[name]:.6g}: give a sum and its "
                "weight, and leave what is not linear to `finish`"
            )


def score(model: Objective, batches: Sequence[Batch]) -> tuple[Loss, dict[str, Tensor]]:
    """Sums over micro-batches: losses with their stats, and gradients by parameter."""
    model.zero_grad()
    with Still():
        losses = [model(batch) for batch in batches]
        torch.stack([loss.total for loss in losses]).sum().backward()
    whole = losses[0]
    whole.total = whole.total.detach()
    for loss in losses[1:]:
        whole.total, whole.count = whole.total + loss.total.detach(), whole.count + loss.count
        for name, stat in loss.stats.items():
            whole.stats[name].total = whole.stats[name].total + stat.total
            whole.stats[name].weight += stat.weight
    return whole, {name: grad.clone() for name, grad in gradients(model).items() if grad is not None}


def padding_changes_nothing(case: Case) -> None:
    """A row alone and the same row in a wider batch, garbage after its end, have one loss."""
    model = steady(case)
    batch = speech(model)
    for row in range(3):
        alone = part(batch, [row])
        padded = part(batch, [row])
        padded.audio = littered(alone.audio, 5000)
        padded.noisy = littered(alone.noisy, 5000) if len(alone.changed) else padded.audio
        one, other = score(model, [alone])[0], score(model, [padded])[0]
        if one.count != other.count or not close(one.total, other.total):
            raise Broken(
                f"a row of {float(alone.audio.lengths[0]) / model.frontend.sample_rate:.1f} s has loss "
                f"{float(one.total):.6g} over {one.count} targets alone, {float(other.total):.6g} over {other.count} "
                f"with padding ({CHANCE}): read nothing past the lengths"
            )


def stats_keep_their_names(case: Case) -> None:
    """Every batch gives the same stats, of the same shape; those of no target are finite numbers."""
    model = case.model()
    full: Loss = model(speech(model))
    known = shapes(full)
    for what, loss in few_targets(model).items():
        if shapes(loss) != known:
            raise Broken(
                f"{what} gives the stats {shapes(loss)}, a full batch {known}: ranks add them up in one call, so "
                "every rank needs all of them from every batch"
            )
        for name, value in logged(loss).items():
            if not torch.isfinite(torch.tensor(value)):
                raise Broken(f"the stat '{name}' of {what} is {value}: no number for metrics.jsonl")


def logged(loss: Loss) -> dict[str, float]:
    """Give the numbers that the loop would log of a loss's stats."""
    bag = StatBag(torch.device("cpu"))
    bag.add(loss.stats)
    return bag.pop(lambda _: None)


def shapes(loss: Loss) -> dict[str, tuple[int, ...]]:
    return {name: tuple(stat.total.shape) for name, stat in sorted(loss.stats.items())}


def few_targets(model: Objective) -> dict[str, Loss]:
    """Losses of batches that have few targets or none."""
    batch = speech(model)
    quiet = silence(model.frontend.sample_rate)
    losses = {"a validation batch": model.eval()(batch), "a row of silence": model.train()(quiet)}
    replace_masking(model, Blank())
    return losses | {"an empty mask": model(batch)}
