"""Heads by themselves: shapes and padding."""

import torch

from research.conformance.case import Case, littered
from research.conformance.downstream import LENGTHS, frames, made
from research.conformance.rules import Broken
from research.conformance.tools import Still, close, snapshot
from research.contracts import Seq
from research.downstream import Head
from research.training.optimizer import end_step


def vectors_are_as_promised(case: Case) -> None:
    """(B, U, dim): a vector per frame with the lengths of the frames, or one per utterance, none of an empty one.

    The criterion behind it is built for them, and pairs them with labels by their lengths.
    """
    head: Head = made(case).eval()
    for lengths in ([9, 4, 1, 0], [1, 0], [5]):
        x = frames(lengths)
        out = head(x)
        per_frame, per_row = (
            out.lengths.tolist() == wanted for wanted in (lengths, [min(1, n) for n in lengths])
        )
        wide = x.x.size(1) if per_frame and max(lengths) > 1 else 1
        if not (per_frame or per_row) or out.lengths.device.type != "cpu":
            raise Broken(
                f"rows of {lengths} frames get {out.lengths.tolist()} vectors on {out.lengths.device}: one for every frame, "
                "or one for each row that has frames; lengths stay on the host"
            )
        if out.x.shape != (len(lengths), wide, head.dim):
            raise Broken(
                f"it gives {tuple(out.x.shape)}, dim and lengths promise {(len(lengths), wide, head.dim)}"
            )


@torch.no_grad()
def rows_ignore_padding(case: Case) -> None:
    """A row alone and the same row in a wider batch, garbage after its end, give the same vectors.

    A row's score would depend on the batch that it was put in.
    """
    head: Head = made(case).eval()
    batch = frames(LENGTHS)
    together = head(littered(batch, 30))
    for row, length in enumerate(LENGTHS):
        alone = head(Seq(batch.x[row : row + 1, :length], batch.lengths[row : row + 1]))
        if not close(together.x[row, : alone.x.size(1)], alone.x[0]):
            raise Broken(
                f"the vectors of a row of {length} frames depend on what stands after its end, or in other rows: silence "
                "padding before every convolution, pool over valid frames only"
            )


def statistics_ignore_padding(case: Case) -> None:
    """In training, padding changes neither the vectors of a row nor the state that its step leaves.

    Norms would learn how much silence a batch happened to have.
    """
    outcomes = []
    for padding in (0, 40):
        head: Head = made(case).train()
        x = littered(frames((31, 31)), padding)
        with Still():
            out = head(x)
        end_step(head, 1)
        outcomes.append((out.x[out.valid], snapshot(head)))
    (alone, state), (padded, padded_state) = outcomes
    if not close(padded, alone):
        raise Broken("padding changes a row's vectors in training: take statistics over valid frames only")
    for key, value in state.items():
        if not close(padded_state[key], value):
            raise Broken(f"{key} counts padding: collect statistics over valid frames only")
