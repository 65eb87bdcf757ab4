"""Whether a target is hidden as a whole."""

import torch

from research.conformance.case import Case, speech
from research.conformance.loss import steady
from research.conformance.rules import Broken
from research.conformance.targets import masks_embedded, quantized
from research.conformance.tools import Fixed
from research.contracts import Seq


def targets_are_masked(case: Case) -> None:
    """Where frames of the frontend are masked and quantized, more than half of every target is masked.

    A target whose frames the student hears is there to be copied: so it is at the ends of blocks whose length is no
    multiple of the stacking.
    """
    model = steady(case)
    batch = speech(model)
    if masks_embedded(model, batch):
        return  # what `embed` gives has heard its neighbours
    plain = quantized(model, batch)
    hook = model.frontend.register_forward_hook(lambda _module, _args, out: other_beside(out))
    spoilt = quantized(model, batch)
    hook.remove()
    for (x, _), (y, _) in zip(plain, spoilt, strict=True):
        heard = (x != y).float().mean(-1)  # (M,) share of each target that is not masked
        if x.shape == y.shape and (heard == 0).any() and float(heard.max()) >= 0.5:
            raise Broken(
                f"{float(heard.max()):.0%} of a target stands beside the mask: count an encoder frame when all, or "
                "most, of the frames that it is made of are masked, as `stack(mask, r).mean(-1) > 0.8`"
            )


def other_beside(x: Seq) -> Seq:
    """Random values where `Fixed` does not mask."""
    mask = Fixed()(x.lengths, x.x.size(1))  # (B, S)
    drawn = torch.randn(x.x.shape, generator=torch.Generator().manual_seed(3))
    return x.replace(torch.where(mask[..., None], x.x, drawn))
