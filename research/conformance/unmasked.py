"""Objectives that mask nothing: what they predict was given to them, or was not heard yet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from research.conformance.rules import Broken
from research.conformance.tools import Blank
from research.contracts import Batch, Encoded, Frontend, Objective, Seq
from research.training.seeds import seed_all

SHARE = 0.3  # of a frame's gradient: a target that changes changes more of it, one of many distractors less
PLACES = 5  # of pieces that are changed, one at a time


@dataclass
class View:
    """What one call of an objective showed."""

    loss: Tensor
    heard: list[Encoded] = field(default_factory=list)  # what the encoder gave with gradients, call by call
    leaves: list[Encoded] = field(
        default_factory=list
    )  # the same as the objective got it, cut off from the encoder

    def gradient(self) -> Tensor:
        """How the loss depends on what the encoder gave, all layers side by side: (B, T, C)."""
        leaves = [x for one in self.leaves for x in (one.last.x, *one.layers)]
        found = torch.autograd.grad(self.loss, leaves, allow_unused=True)
        filled = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
        return torch.cat(filled, -1)

    def frames(self) -> Tensor:
        """What the encoder gave, all layers side by side: (B, T, C)."""
        return torch.cat([x for one in self.heard for x in (one.last.x, *one.layers)], -1).detach()


def look(model: Objective, batch: Batch, piece: int | None = None, told: View | None = None) -> View:
    """Call an objective, with other values in one piece of every row's frontend frames if asked.

    With `told`, it is told what the encoder gave then in place of what it gives now: only targets are new.
    """
    encoder, seen, context = model.encoder, View(torch.zeros(())), model.encoder.context

    def watch(x: Seq, layers: Sequence[int] = ()) -> Encoded:
        encoded = context(x, layers)
        if not torch.is_grad_enabled():
            return encoded
        shown = encoded if told is None else told.heard[len(seen.heard)]
        seen.heard.append(encoded)
        seen.leaves.append(cut_off(shown))
        return seen.leaves[-1]

    vars(encoder)["context"] = watch
    try:
        with nullcontext() if piece is None else other_piece(model, piece):
            seed_all("look")
            seen.loss = model(batch).total
    finally:
        vars(encoder).pop("context")
    return seen


def cut_off(encoded: Encoded) -> Encoded:
    def leaf(x: Tensor) -> Tensor:
        return x.detach().clone().requires_grad_()

    return Encoded(encoded.last.replace(leaf(encoded.last.x)), [leaf(x) for x in encoded.layers])


@contextmanager
def other_piece(model: Objective, piece: int) -> Iterator[None]:
    """Let every frontend in a model give other frames in one piece: those that become encoder frame `piece`."""
    r, found = model.encoder.stride, [m for m in model.modules() if isinstance(m, Frontend)]

    def changed(give: Callable[[Seq], Seq]) -> Callable[[Seq], Seq]:
        def spoil(audio: Seq) -> Seq:
            feats = give(audio)
            here = feats.valid & (torch.arange(feats.x.size(1)) // r).eq(piece)  # (B, S)
            drawn = torch.randn(feats.x.shape, generator=torch.Generator().manual_seed(3))
            return feats.replace(torch.where(here[..., None], drawn, feats.x))

        return spoil

    for each in found:
        vars(each)["forward"] = changed(each.forward)
    try:
        yield
    finally:
        for each in found:
            vars(each).pop("forward", None)


def nothing_predicted_is_heard(model: Objective, batch: Batch) -> None:
    """Broken when frames of the encoder hear what they predict: they would learn to pass it on."""
    model.masking = Blank()
    plain = look(model, batch)
    if not plain.heard:
        raise Broken("the encoder never ran with gradients: train through objective.encoder")
    before, frames = plain.gradient(), plain.frames()  # (B, T, C) both
    for piece in pieces(frames):
        after = look(model, batch, piece, told=plain).gradient()
        asked = (after - before).norm(dim=-1) > SHARE * before.norm(dim=-1).clamp(min=1e-12)  # (B, T)
        moved = (look(model, batch, piece).frames() - frames).abs().amax(-1) > 1e-4 * frames.abs().max()
        if (asked & moved).any():
            t = int((asked & moved).any(0).nonzero()[0])
            raise Broken(
                f"frame {t} of the encoder predicts piece {piece} of the signal and hears it: mask it, or predict what "
                "comes more than encoder.ahead frames later"
            )


def pieces(frames: Tensor) -> list[int]:
    """Some pieces of the signal, none at its edges: of (B, T, C)."""
    size = frames.size(1)
    return sorted({max(1, size * k // (PLACES + 1)) for k in range(1, PLACES + 1)})


def targets_matter(model: Objective, batch: Batch) -> bool:
    """Whether the loss depends on the signal beside what the encoder gives, or on what was given."""
    model.masking = Blank()
    plain = look(model, batch)
    others = [look(model, batch, piece, told=plain).loss for piece in pieces(plain.frames())]
    others.append(look(model, regiven(batch), told=plain).loss)
    return not all(torch.equal(plain.loss, other) for other in others)


def given_stays_unheard(model: Objective, batch: Batch) -> None:
    """Broken when labels or texts reach what the encoder gives."""
    plain, other = look(model, batch), look(model, regiven(batch))
    if plain.heard and not torch.equal(plain.frames(), other.frames()):
        raise Broken(
            "other labels or texts change what the encoder gives: the student reads what it has to learn; let it hear "
            "the signal only"
        )


def regiven(batch: Batch) -> Batch:
    """The same signal with other labels and texts."""
    labels = None if batch.labels is None else batch.labels.replace((batch.labels.x + 1) % 8)
    return replace(batch, labels=labels, texts=batch.texts[1:] + batch.texts[:1])
