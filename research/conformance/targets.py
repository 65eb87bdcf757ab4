"""Targets: of the signal, hidden from the student, decided by the seed, the same in every precision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from research.conformance.case import Case, speech
from research.conformance.loss import steady
from research.conformance.rules import Broken
from research.conformance.tools import Fixed
from research.contracts import Batch, Loss, Objective, Quantizer, Seq
from research.training.seeds import seed_all


def no_target_leaks(case: Case) -> None:
    """What stands under the mask reaches nothing that the student's encoder gives."""
    model = steady(case)
    batch = speech(model)
    (plain, _), (spoilt, _) = view(model, batch, spoil=False), view(model, batch, spoil=True)
    if not plain:
        raise Broken("the encoder never ran with gradients: train through objective.encoder")
    if len(plain) != len(spoilt) or not all(map(torch.equal, plain, spoilt)):
        raise Broken(
            "other values under the mask change what the encoder gives: the student sees its targets; fill every "
            "masked frame before the encoder reads it"
        )


def targets_follow_the_signal(case: Case) -> None:
    """The loss depends on what is under the mask, or on offline labels."""
    model = steady(case)
    batch = speech(model)
    (_, plain), (_, spoilt) = view(model, batch, spoil=False), view(model, batch, spoil=True)
    assert batch.labels is not None
    batch.labels = batch.labels.replace((batch.labels.x + 1) % 8)
    _, relabelled = view(model, batch, spoil=False)
    if torch.equal(plain.total, spoilt.total) and torch.equal(plain.total, relabelled.total):
        raise Broken(
            "neither other values under the mask nor other labels change the loss: the targets are not of the "
            "signal; take them before the mask is filled, and fill a copy, never the frames themselves"
        )


def view(model: Objective, batch: Batch, *, spoil: bool) -> tuple[list[Tensor], Loss]:
    """What the student's encoder gives, and the loss, with other values under the mask if asked.

    They are put where the mask applies, by its size: in the frontend's frames, or in what `embed` gives.
    """
    encoder, seen = model.encoder, list[Tensor]()
    context, embed = encoder.context, encoder.embed
    after = spoil and masks_embedded(model, batch)

    def watch(x: Seq, layers: Sequence[int] = ()) -> object:
        encoded = context(x, layers)
        if torch.is_grad_enabled():
            seen.append(encoded.last.x.detach())
        return encoded

    vars(encoder)["context"] = watch
    if after:
        vars(encoder)["embed"] = lambda feats: other_values(embed(feats))
    hook = model.frontend.register_forward_hook(
        lambda _module, _args, out: other_values(out) if spoil and not after else out
    )
    seed_all("view")
    loss: Loss = model(batch)
    hook.remove()
    vars(encoder).pop("context")
    vars(encoder).pop("embed", None)
    return seen, loss


def masks_embedded(model: Objective, batch: Batch) -> bool:
    """Whether the objective masks what the encoder's `embed` gives, rather than the frontend's frames."""
    fixed = Fixed()
    model.masking = fixed
    model(batch)
    return model.frontend(batch.audio).x.size(1) not in fixed.sizes


def other_values(x: Seq) -> Seq:
    """Random values in the middle half of every row, where `Fixed` masks."""
    mask = Fixed()(x.lengths, x.x.size(1))  # (B, T)
    drawn = torch.randn(x.x.shape, generator=torch.Generator().manual_seed(3))
    return x.replace(torch.where(mask[..., None], drawn, x.x))


def seed_decides_everything(case: Case) -> None:
    """The same seed gives the same loss and masks, bit for bit; another seed gives other masks."""
    model = case.model()
    batch = speech(model)
    same, other = [draw(model, batch, seed) for seed in (1, 1)], draw(model, batch, 2)
    if not torch.equal(same[0][0], same[1][0]):
        raise Broken(
            f"the same seed gives the losses {float(same[0][0]):.9g} and {float(same[1][0]):.9g}: draw from torch's "
            "default generators only, keep nothing from the call before"
        )
    if other[1] and all(map(torch.equal, same[0][1], other[1])):
        raise Broken(
            "another seed gives the same masks: draw them from torch's default generator, every time"
        )


def draw(model: Objective, batch: Batch, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Loss and masks of a seed."""
    masks: list[Tensor] = []
    hook = model.masking.register_forward_hook(lambda _module, _args, out: masks.append(out))
    seed_all("draw", seed)
    total = model(batch).total.detach()
    hook.remove()
    return total, masks


def bf16_keeps_targets(case: Case) -> None:
    """Under bf16 autocast, targets that no trained weight has a say in stay the same integers."""
    model = steady(case)
    batch = speech(model)
    plain = quantized(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        under = quantized(model, batch)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    shaken = quantized(model, batch)
    for (x, ids), (low_x, low_ids), (learned_x, _) in zip(plain, under, shaken, strict=True):
        if torch.equal(x, learned_x) and not (torch.equal(x, low_x) and torch.equal(ids, low_ids)):
            share = float((ids != low_ids).float().mean())
            raise Broken(
                f"under bf16 the quantizer reads other values, by up to {float((x - low_x).abs().max()):.2g}, and "
                f"{share:.1%} of the targets differ: compute what it reads with autocast off"
            )


def quantized(model: Objective, batch: Batch) -> list[tuple[Tensor, Tensor]]:
    """What the model's quantizers read, and the ids that they give, call by call."""
    calls: list[tuple[Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda _module, args, out: calls.append((args[0], out.ids)))
        for module in model.modules()
        if isinstance(module, Quantizer)
    ]
    seed_all("quantized")
    model(batch)
    for hook in hooks:
        hook.remove()
    return calls
