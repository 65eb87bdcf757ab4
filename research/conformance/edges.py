"""Batches that real data holds now and then, and a device that must not be waited for."""

import math

import torch

from research.conformance.case import Case, labels, speech
from research.conformance.rules import Broken, crash
from research.conformance.tools import Blank, gradients, student, train
from research.conformance.waiting import no_values, read_once
from research.contracts import Batch, Loss, Objective, Seq
from research.engine.gangs import Nowhere
from research.training.data import silence
from research.training.optimizer import end_step


def odd_batches(model: Objective) -> dict[str, Batch]:
    """Batches with little in them, and what they are."""
    rate = model.frontend.sample_rate
    nothing = Seq(torch.zeros(2, rate // 10), torch.zeros(2, dtype=torch.long))
    return {
        "a batch of two clips of 0.1 s": speech(model, (0.1, 0.1)),
        "a row of no samples": speech(model, (1.2, 0.0)),
        "a row of one sample": speech(model, (1.2, 1 / rate)),
        "a silent clip of 0.1 s": silence(rate),
        "a batch of no samples": Batch.clean(
            nothing, labels=labels(model, nothing, 0), ids=["0", "1"], texts=["", "a"]
        ),
    }


def odd_batches_are_harmless(case: Case) -> None:
    """Tiny, silent and empty rows and empty masks: no crash, no NaN, no loss without targets, and every gradient.

    Real data holds such clips; one NaN, or a rank that stops, ends the run.
    """
    model = case.model()
    for what, batch in odd_batches(model).items():
        check_odd(model, what, batch)
    model.masking = Blank()
    check_odd(model, "an empty mask", speech(model))


def check_odd(model: Objective, what: str, batch: Batch) -> None:
    """Step over a batch, without moving weights."""
    model.zero_grad()
    try:
        loss: Loss = model(batch)
        loss.total.backward()
        end_step(model, 1)
    except Exception as error:
        raise Broken(f"{what} crashes it: {crash(error)}") from error
    for key, value in model.state_dict().items():
        if not torch.isfinite(value).all():
            raise Broken(
                f"{what} makes {key} not finite: on_step_end divides by what it counted, which was nothing: clamp it to 1"
            )
    total = float(loss.total.detach())
    if not math.isfinite(total):
        raise Broken(f"{what} gives a loss of {total}: a mean over nothing is NaN; sum instead")
    if loss.count == 0 and total != 0:
        raise Broken(
            f"{what} has no target, but a loss of {total:.4g}: add nothing that is no sum over targets"
        )
    for name, grad in gradients(model).items():
        if grad is None:
            raise Broken(
                f"{what} gives {name} no gradient, and several ranks would wait for it for ever: let an empty sum "
                "keep its graph instead of returning early"
            )
        if not torch.isfinite(grad).all():
            raise Broken(
                f"{what} gives {name} a gradient that is not finite: divide by a count of at least 1, take no root of 0"
            )
        if loss.count == 0 and grad.any():
            raise Broken(
                f"{what} has no target, but gives {name} a gradient: add nothing that is no sum over targets"
            )


def device_is_never_read(case: Case) -> None:
    """Nothing in a whole training step waits for the device, and nothing stays behind on the host.

    Whatever reads a tensor back makes the host wait for the device in every step.
    """
    model = case.model()
    batch = speech(model)
    it = student(model, case.config(), Nowhere())
    counts: list[object] = []
    model.register_forward_hook(lambda _, __, loss: counts.append(loss.count))
    with no_values(), read_once():
        try:
            train(it, [batch])
        except Exception as error:
            raise Broken(
                f"{crash(error)}. On a device without values this line fails: it reads a tensor back (.item(), bool(), "
                "nonzero(), a boolean index, .cpu()), copies one there without non_blocking=True, or mixes tensors of "
                "host and device"
            ) from error
    if not isinstance(counts[0], int):
        raise Broken(
            f"the count is a {type(counts[0]).__name__}: give an int, from lengths and masks on the host"
        )
