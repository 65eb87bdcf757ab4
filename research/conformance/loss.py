"""The loss: a sum over its targets that padding and batching do not change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from research.conformance.case import Case, littered, part, speech
from research.conformance.rules import Broken
from research.conformance.tools import Blank, Fixed, Still, close, gradients
from research.contracts import Batch, Codes, Loss, Objective, Quantizer
from research.training.data import silence
from research.training.stats import StatBag

CHANCE = "with dropout and batch statistics off, a mask that depends on the row's length only, and one random number"


def steady(case: Case) -> Objective:
    """A model in which a row's loss depends on the row only."""
    model = case.model().eval()
    model.masking = Fixed()
    return model


def unpenalized(model: Objective) -> Objective:
    """Take the one term out of the loss that may look at a batch as a whole."""

    def drop(_module: nn.Module, _inputs: object, codes: Codes) -> Codes:
        return replace(codes, penalty=None if codes.penalty is None else codes.penalty * 0)

    for module in model.modules():
        if isinstance(module, Quantizer):
            module.register_forward_hook(drop)
    return model


def loss_is_a_sum(case: Case) -> None:
    """Loss, count, gradients and stats of a batch are the sums of those of its halves.

    Micro-batches and ranks are added up and divided once by all targets: a mean, a wrong count or a row
    that sees another makes results depend on how a batch was cut.
    """
    model = unpenalized(steady(case))
    whole = speech(model, (0.9, 0.9, 0.9, 0.9))
    together, parts = score(model, [whole]), score(model, [part(whole, [0, 1]), part(whole, [2, 3])])
    if together.loss.count <= 0:
        raise Broken(
            f"the count of a masked batch is {together.loss.count}: give the number of targets, as an int"
        )
    if difference := parts.differs_from(together):
        raise Broken(
            f"of two halves {difference} of the whole ({CHANCE}): sum over targets, let no row see another"
        )
    values = logged(together.loss)
    for name, value in logged(parts.loss).items():
        if abs(value - values[name]) > 1e-3 * abs(value) + 1e-6:
            raise Broken(
                f"the stat '{name}' of two halves is {value:.6g}, of the whole {values[name]:.6g}: give a sum and its "
                "weight, and leave what is not linear to `finish`"
            )


def padding_changes_nothing(case: Case) -> None:
    """Rows of several lengths in one batch, garbage after their ends, give what they give one by one.

    A row's neighbours in the batch decide its padding: it would learn other things beside longer ones.
    """
    model = steady(case)
    batch = speech(model)
    audio = littered(batch.audio, 5000)
    padded = replace(batch, audio=audio, noisy=littered(batch.noisy, 5000))
    if difference := score(model, [padded]).differs_from(score(model, [batch])):
        raise Broken(
            f"with more padding, full of garbage, {difference} of before ({CHANCE}): read nothing past the lengths"
        )
    unpenalized(model)
    alone = score(model, [part(batch, [row]) for row in range(len(batch.ids))])
    if difference := score(model, [padded]).differs_from(alone):
        raise Broken(
            f"in one padded batch {difference} of the same rows alone ({CHANCE}): read nothing past the lengths"
        )


@dataclass
class Score:
    """Sums over micro-batches."""

    loss: Loss
    gradients: dict[str, Tensor]

    def differs_from(self, other: "Score") -> str:
        """Tell the first difference that is more than rounding, or nothing."""
        if self.loss.count != other.loss.count:
            return f"the count is {self.loss.count}, not the {other.loss.count}"
        if not close(self.loss.total, other.loss.total):
            return f"the loss is {float(self.loss.total):.7g}, not the {float(other.loss.total):.7g}"
        largest = max(float(grad.abs().max()) for grad in other.gradients.values())
        for name, grad in other.gradients.items():
            if not close(self.gradients[name], grad, largest):
                return f"the gradient of {name} is not that"
        return ""


def score(model: Objective, batches: Sequence[Batch]) -> Score:
    """Losses with their stats, and gradients, summed over micro-batches."""
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
    return Score(whole, {name: grad.clone() for name, grad in gradients(model).items() if grad is not None})


def stats_keep_their_names(case: Case) -> None:
    """Every batch gives the same stats, of the same shape; those of no target are finite numbers.

    Ranks add up their stats in one call, and wait for ever for one that a rank does not give.
    """
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
                raise Broken(
                    f"the stat '{name}' of {what} is {value}, no number for metrics.jsonl: leave the division to the loop, by the stat's weight"
                )


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
    model.masking = Blank()
    return losses | {"an empty mask": model(batch)}
