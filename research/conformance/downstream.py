"""What holds for all plugins of downstream tasks: aggregations, heads and criteria."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from research.conformance.case import CLASSES, DIM, FACTS, LAYERS, Case
from research.conformance.rules import Broken, crash
from research.conformance.tools import gradients, identical, moved, snapshot
from research.conformance.waiting import no_values
from research.contracts import Loss, Seq
from research.downstream import Criterion
from research.training.optimizer import end_step
from research.training.seeds import seed_all

LENGTHS = (40, 23, 17, 40)


def made(case: Case) -> Any:
    """Give the plugin, small."""
    return case.plugin(**FACTS[case.kind])


def frames(lengths: Sequence[int], seed: int = 0) -> Seq:
    """Random vectors (B, T, DIM), zeros after each end; T is 1 at least."""
    source = torch.Generator().manual_seed(seed)
    x = Seq(torch.randn(len(lengths), max(1, *lengths), DIM, generator=source), torch.tensor(lengths))
    return x.replace(x.x * x.valid[..., None])


def targets(plugin: Criterion, lengths: Sequence[int], seed: int = 0) -> Seq:
    """Random labels (B, U, 1) for so many frames: one each, or one for every four where the task aligns them."""
    many = torch.tensor(lengths) // (4 if plugin.frames else 1)  # (B,)
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randint(CLASSES, (len(lengths), max(1, int(many.max())), 1), generator=source)
    return Seq(drawn, many)


def inputs(plugin: nn.Module, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> tuple[Any, ...]:
    """Arguments of the plugin's forward, without gradients of their own: the encoder is frozen."""
    kind = getattr(plugin, "kind", "")
    if kind == "aggregation":
        return ([frames(lengths, 100 * seed + k).x for k in range(LAYERS)],)
    if isinstance(plugin, Criterion):
        return frames(lengths, seed), targets(plugin, lengths, seed)
    return (frames(lengths, seed),)


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """Every tensor in some arguments."""
    flat: list[Tensor] = []
    for value in values:
        if isinstance(value, Seq):
            flat += [value.x, value.lengths]
        else:
            flat += list(value)
    return flat


def summary(out: Any) -> Tensor:
    """One number that everything promised of an output goes into."""
    if isinstance(out, Loss):
        return out.total
    if isinstance(out, Seq):
        return torch.where(out.valid[..., None], out.x.float(), 0.0).square().sum()
    assert isinstance(out, Tensor)
    return out.float().square().sum()


def forward_keeps_state(case: Case) -> None:
    """A forward and a backward pass change nothing that is saved, in training and in evaluation.

    Validation, or a second micro-batch, would move the model.
    """
    plugin = made(case)
    before = snapshot(plugin)
    for mode in (True, False):
        plugin.train(mode)
        backward(plugin, inputs(plugin))
        if keys := moved(before, snapshot(plugin)):
            raise Broken(
                f"{keys[0]} is saved, and forward changes it: collect in a buffer with persistent=False (as "
                "research.nn.norm.BatchNorm does), move in on_step_end"
            )


def backward(plugin: nn.Module, args: tuple[Any, ...]) -> Any:
    """Forward and backward, where there is anything to go back to; give the output."""
    out = plugin(*args)
    total = summary(out)
    if total.requires_grad:
        total.backward()
    return out


def parameters_are_reached(case: Case) -> None:
    """Every trained parameter gets a gradient from every batch, one that is not zero, also behind a frozen encoder.

    What has no gradient is not trained, and several ranks wait for it for ever.
    """
    plugin = made(case).train()
    for seed in range(3):
        seed_all("gradients", seed)
        backward(plugin, inputs(plugin, seed=seed))
        for name, grad in gradients(plugin).items():
            if grad is None:
                raise Broken(
                    f"{name} is trained but the output does not depend on it: use it, or requires_grad=False"
                )
    for name, grad in gradients(plugin).items():
        if grad is not None and not grad.any():
            raise Broken(
                f"the gradient of {name} is zero in every batch, so it never moves: is it detached, or multiplied by 0?"
            )


def inputs_are_kept(case: Case) -> None:
    """The plugin does not write into what it reads.

    Stored features are read again in the next epoch.
    """
    plugin = made(case).train()
    args = inputs(plugin)
    before = [value.clone() for value in tensors(args)]
    plugin(*args)
    if not all(map(identical, before, tensors(args))):
        raise Broken("forward writes into its input: copy before an operation in place")


@torch.no_grad()
def autocast_is_harmless(case: Case) -> None:
    """Under bf16 autocast, the output differs by rounding only; a loss stays fp32.

    A classifier in bf16 would be another one.
    """
    plugin = made(case).eval()
    plain = plugin(*inputs(plugin))
    with torch.autocast("cpu", torch.bfloat16):
        try:
            under = plugin(*inputs(plugin))
        except Exception as error:
            raise Broken(f"under bf16 autocast it crashes: {crash(error)}") from error
    if isinstance(under, Loss) and under.total.dtype != torch.float32:
        raise Broken(f"the loss is {under.total.dtype} under bf16: turn the scores into fp32 first")
    one, other = float(summary(under)), float(summary(plain))
    if not abs(one - other) <= 0.1 * abs(other):
        raise Broken(
            f"under bf16 the output sums up to {one:.4g}, in fp32 to {other:.4g}: sum, divide and take roots in fp32"
        )


def odd_rows_are_harmless(case: Case) -> None:
    """Rows of one frame and of none, alone and together: no crash, no NaN, no loss without labels.

    Real data holds such clips; one NaN, or a rank that stops, ends the run.
    """
    for lengths in ((1,), (40, 1, 0), (1, 1), (0, 0), (0,)):
        for mode in (True, False):
            plugin = made(case).train(mode)
            args = inputs(plugin, lengths)
            try:
                out = backward(plugin, args)
                end_step(plugin, 1)
            except Exception as error:
                raise Broken(f"rows of {list(lengths)} frames crash it: {crash(error)}") from error
            check_odd(plugin, f"a batch with rows of {list(lengths)} frames", out)


def check_odd(plugin: nn.Module, what: str, out: Any) -> None:
    total = float(summary(out).detach())
    grads = [grad for grad in gradients(plugin).values() if grad is not None]
    if not math.isfinite(total) or not all(bool(grad.isfinite().all()) for grad in grads):
        raise Broken(f"{what} gives NaN: divide by a count of at least 1, take no root of 0")
    if isinstance(out, Loss) and out.count == 0 and (total != 0 or any(bool(g.any()) for g in grads)):
        raise Broken(f"{what} has no label, but a loss of {total:.4g}: leave such rows out of the sum")
    for key, value in plugin.state_dict().items():
        if not torch.isfinite(value).all():
            raise Broken(
                f"{what} makes {key} not finite: on_step_end divides by what it counted, which was nothing: clamp it to 1"
            )


def host_never_waits(case: Case) -> None:
    """Nothing waits for the device.

    Whatever reads a tensor back makes the host wait for the device in every step.
    """
    plugin = made(case)
    args = inputs(plugin)
    with no_values() as device:
        plugin.to(device, non_blocking=True)
        there = [
            arg.to(device) if isinstance(arg, Seq) else [x.to(device, non_blocking=True) for x in arg]
            for arg in args
        ]
        try:
            out = plugin(*there)
            total = summary(out)
            if total.requires_grad:
                total.backward()
            end_step(plugin, 1)
        except Exception as error:
            raise Broken(
                f"{crash(error)}. On a device without values this line fails: it reads a tensor back, or mixes tensors "
                "of host and device; decide by `lengths`, which are on the host"
            ) from error
    if isinstance(out, Loss) and not isinstance(out.count, int):
        raise Broken(f"the count is a {type(out.count).__name__}: give an int, from lengths on the host")
