"""Objectives that mask nothing: what they predict was given to them, or was not heard yet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from enum import Enum

import torch
from torch import Tensor

from research.conformance.rules import Broken
from research.conformance.tools import Blank
from research.contracts import Batch, Encoded, Encoder, Frontend, Objective, Seq
from research.training.seeds import seed_all

SHARE = 0.5  # of the largest change: a target makes more of it, one of many distractors less
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
        found = torch.autograd.grad(self.loss, leaves, allow_unused=True, retain_graph=True)
        filled = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]
        return torch.cat(filled, -1)

    def frames(self) -> Tensor:
        """What the encoder gave, all layers side by side: (B, T, C)."""
        return torch.cat([x for one in self.heard for x in (one.last.x, *one.layers)], -1).detach()


class Level(Enum):
    """Where other values are put."""

    embedded = "embed"  # in what the encoder's `embed` gives
    frontend = "forward"  # in the frontend's frames


def look(
    model: Objective,
    batch: Batch,
    piece: int | None = None,
    told: View | None = None,
    level: Level = Level.frontend,
) -> View:
    """Call an objective, with other values in one piece of every row if asked.

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
        with nullcontext() if piece is None else other_piece(model, piece, level):
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
def other_piece(model: Objective, piece: int, level: Level) -> Iterator[None]:
    """Let every frontend in a model, or every encoder's `embed`, give others in the frames of one encoder frame."""
    kind, r = (Frontend, model.encoder.stride) if level is Level.frontend else (Encoder, 1)
    found = [module for module in model.modules() if isinstance(module, kind)]

    def changed(give: Callable[[Seq], Seq]) -> Callable[[Seq], Seq]:
        def spoil(x: Seq) -> Seq:
            given = give(x)
            here = given.valid & (torch.arange(given.x.size(1)) // r).eq(piece)  # (B, T)
            elsewhere = given.x.roll(given.x.size(1) // 2, 1)  # (B, T, C) such as distractors are
            return given.replace(torch.where(here[..., None], elsewhere, given.x))

        return spoil

    for each in found:
        vars(each)[level.value] = changed(getattr(each, level.value))
    try:
        yield
    finally:
        for each in found:
            vars(each).pop(level.value)


def nothing_predicted_is_heard(model: Objective, batch: Batch) -> None:
    """Broken when frames of the encoder hear what they predict: they would learn to pass it on.

    A frame predicts a piece when another piece there changes how the loss depends on the frame. It changes less where
    the piece is one of many distractors, so that distances from frame to piece are judged, over all pieces and rows.
    Where targets are made of what `embed` gives, its frames are the pieces: their own sight is no leak.
    """
    model.masking = Blank()
    plain = look(model, batch)
    if not plain.heard:
        raise Broken("the encoder never ran with gradients: train through objective.encoder")
    for level in Level:
        changes = [changes_at(model, batch, piece, plain, level) for piece in pieces(plain.frames())]
        size = plain.frames().size(1)
        by_distance = torch.zeros(2 * size)
        for piece, change, _ in changes:
            by_distance[size - piece : 2 * size - piece] += change
        predicts = by_distance > SHARE * by_distance.max()  # (2 T,)
        for piece, change, moved in changes:
            leaks = moved & predicts[size - piece : 2 * size - piece] & (change > 0)  # (T,)
            if leaks.any():
                raise Broken(
                    f"frame {int(leaks.nonzero()[0])} of the encoder predicts piece {piece} of the signal and hears it: "
                    "mask it, or predict what comes more than encoder.ahead frames later"
                )
        if predicts.any():
            return


def changes_at(
    model: Objective, batch: Batch, piece: int, plain: View, level: Level
) -> tuple[int, Tensor, Tensor]:
    """How much another piece changes what every frame is to learn, and whether the frame hears it: (T,), bool (T,)."""
    after = look(model, batch, piece, plain, level).gradient()  # (B, T, C)
    frames, heard = plain.frames(), look(model, batch, piece, None, level).frames()
    moved = (heard - frames).abs().amax((0, 2)) > 1e-4 * frames.abs().max()
    return piece, (after - plain.gradient()).norm(dim=-1).sum(0), moved


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
