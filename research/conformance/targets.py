"""Targets: of the signal, hidden from the student, decided by the seed, the same in every precision."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from research.conformance import unmasked
from research.conformance.case import Case, speech
from research.conformance.loss import steady
from research.conformance.rules import Broken, crash
from research.conformance.tools import Fixed
from research.contracts import Batch, Encoder, Frontend, Loss, Objective, Quantizer, Seq, Use
from research.training.seeds import seed_all


def no_target_leaks(case: Case) -> None:
    """What stands under the mask reaches nothing that the student's encoder gives; without masks, no target does.

    A student that sees what it has to predict copies it: the loss is fine and nothing is learned.
    """
    model = steady(case)
    batch = speech(model)
    unmasked.given_stays_unheard(model, batch)
    if model.masks is not Use.must:
        unmasked.nothing_predicted_is_heard(model, batch)
        return
    (plain, _), (spoilt, _) = view(model, batch, spoil=False), view(model, batch, spoil=True)
    if not plain:
        raise Broken("the encoder never ran with gradients: train through objective.encoder")
    if len(plain) != len(spoilt) or not all(map(torch.equal, plain, spoilt)):
        raise Broken(
            "other values under the mask change what the encoder gives: the student sees its targets; fill every "
            "masked frame before the encoder reads it"
        )


def targets_follow_the_signal(case: Case) -> None:
    """The loss depends on the signal that is hidden or not heard yet, on labels, or on texts.

    Targets that say nothing about the signal teach nothing about it.
    """
    model = steady(case)
    batch = speech(model)
    if model.masks is Use.must:
        (_, plain), (_, spoilt) = view(model, batch, spoil=False), view(model, batch, spoil=True)
        _, regiven = view(model, unmasked.regiven(batch), spoil=False)
        follows = not (torch.equal(plain.total, spoilt.total) and torch.equal(plain.total, regiven.total))
    else:
        follows = unmasked.targets_matter(model, batch)
    if not follows:
        raise Broken(
            "neither other values of what is hidden or still to come, nor other labels or texts change the loss: the "
            "targets are not of the signal; take them before the mask is filled, and fill a copy, never the frames "
            "themselves"
        )


def parts_do_as_it_says(case: Case) -> None:
    """It asks for masks as `masks` says, and reads no labels or texts that are not in `wants`.

    A choice of masking that would do nothing is refused by `masks`; batches hold only what is in `wants`.
    """
    model = case.model()
    batch = speech(model)
    (total, masks) = draw(model, batch, 1)
    if (model.masks is Use.must) != bool(masks) and model.masks is not Use.may:
        raise Broken(
            f"masks is Use.{model.masks.value}, but it asked for {len(masks)} masks in a step: say what it does"
        )
    bare = replace(batch, texts=batch.texts if "text" in model.wants else [])
    bare = replace(bare, labels=bare.labels if "labels" in model.wants else None)
    try:
        same = torch.equal(draw(model, bare, 1)[0], total)
    except Exception as error:
        raise Broken(
            f"without what `wants` leaves out it crashes: {crash(error)}; add it to `wants`"
        ) from error
    if not same:
        raise Broken(
            f"wants is {model.wants}, but the loss depends on other labels or texts: add them to `wants`"
        )


def view(model: Objective, batch: Batch, *, spoil: bool) -> tuple[list[Tensor], Loss]:
    """What the student's encoder gives, and the loss, with other values under the mask if asked.

    They are put where the mask applies, by its size: in the frontend's frames, or in what `embed` gives. What copies
    of the model read is changed in both, for any of it may be a target.
    """
    encoder, seen = model.encoder, list[Tensor]()
    context = encoder.context
    after = spoil and masks_embedded(model, batch)

    def watch(x: Seq, layers: Sequence[int] = ()) -> object:
        encoded = context(x, layers)
        if torch.is_grad_enabled():
            seen.append(encoded.last.x.detach())
        return encoded

    vars(encoder)["context"] = watch
    for each in model.modules() if spoil else ():
        if isinstance(each, Frontend) and not (after and each is model.frontend):
            vars(each)["forward"] = spoiled(each.forward)
        if isinstance(each, Encoder) and after:
            vars(each)["embed"] = spoiled(each.embed)
    seed_all("view")
    loss: Loss = model(batch)
    for each in model.modules():
        for name in ("forward", "embed", "context") if isinstance(each, Frontend | Encoder) else ():
            vars(each).pop(name, None)
    return seen, loss


def spoiled(give: Callable[[Seq], Seq]) -> Callable[[Seq], Seq]:
    """The same with other values under the mask."""
    return lambda x: other_values(give(x))


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
    """The same seed gives the same loss and masks, bit for bit; another seed gives other masks.

    Runs could not be repeated or resumed; and one mask for ever hides the rest of the signal's frames for
    ever.
    """
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
    """Under bf16 autocast, targets that no trained weight has a say in stay the same integers.

    A run in bf16 would learn other targets than the same one in fp32.
    """
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
