"""Aggregations by themselves: what they make of any number of layers."""

import torch
from torch import Tensor

from research.conformance.case import DIM, Case
from research.conformance.downstream import inputs, made
from research.conformance.rules import Broken
from research.conformance.tools import close
from research.downstream import Aggregation


def width_is_as_promised(case: Case) -> None:
    """Any number of layers, one too, become one tensor (B, T, dim).

    The head behind it is built for that width.
    """
    for count in (1, 2, 5):
        plugin: Aggregation = case.plugin(dim_in=DIM, layers=count)
        out = plugin([torch.ones(2, 7, DIM)] * count)
        if not isinstance(out, Tensor):
            raise Broken(f"it gives a {type(out).__name__}: return one tensor (B, T, dim)")
        if out.shape != (2, 7, plugin.dim):
            raise Broken(
                f"of {count} layers {(2, 7, DIM)} it makes {tuple(out.shape)}: set dim to its last size, {plugin.dim} now"
            )


@torch.no_grad()
def frames_stand_alone(case: Case) -> None:
    """A frame depends on the same frame of the layers, on no other of its row or of another: padding counts nowhere.

    A row's score would depend on the batch that it was put in.
    """
    for mode in (True, False):
        plugin: Aggregation = made(case).train(mode)
        (layers,) = inputs(plugin)
        whole, piece = plugin(layers), plugin([layer[1:2, 3:6] for layer in layers])
        if not close(piece, whole[1:2, 3:6]):
            raise Broken(
                "a frame changes with the frames beside it, padding among them: combine layers frame by frame"
            )
