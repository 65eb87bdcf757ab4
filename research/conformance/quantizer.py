"""Quantizers by themselves: ids, vectors, precision."""

import torch
from torch import Tensor

from research.conformance.case import Case
from research.conformance.rules import Broken
from research.conformance.tools import identical, moved, snapshot
from research.contracts import Codes, Quantizer

DIM = 24


def made(case: Case, dim: int = DIM) -> Quantizer:
    quantizer: Quantizer = case.plugin(dim_in=dim)
    return quantizer.eval()


def inputs(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def ids_are_codes(case: Case) -> None:
    """Ids are int64 (..., books) below `codes`; vectors are (..., dim); any leading shape, an empty one too.

    Heads have one output for each of `codes`; an id past the end is another book's, or a crash on the
    device.
    """
    for dim, lead in ((DIM, (4, 7)), (DIM, (50,)), (DIM, (0,)), (2 * DIM, (3, 2, 5))):
        quantizer = made(case, dim)
        codes: Codes = quantizer(inputs(*lead, dim))
        if codes.ids.shape != (*lead, quantizer.books) or codes.ids.dtype != torch.int64:
            raise Broken(
                f"ids of {(*lead, dim)} are {tuple(codes.ids.shape)} {codes.ids.dtype}, books promise "
                f"{(*lead, quantizer.books)} torch.int64"
            )
        if codes.ids.numel() and not 0 <= int(codes.ids.min()) <= int(codes.ids.max()) < quantizer.codes:
            raise Broken(
                f"ids lie in {int(codes.ids.min())}..{int(codes.ids.max())}, codes = {quantizer.codes}: number them from 0, and say how many a book has"
            )
        if codes.vectors is None and quantizer.dim != 0:
            raise Broken(f"it gives no vectors, and dim promises {quantizer.dim}: say dim = 0, or give them")
        if codes.vectors is not None and codes.vectors.shape != (*lead, quantizer.dim):
            raise Broken(f"vectors are {tuple(codes.vectors.shape)}, dim promises {(*lead, quantizer.dim)}")
        if codes.penalty is not None and codes.penalty.shape != ():
            raise Broken(f"the penalty is {tuple(codes.penalty.shape)}: give a scalar, a mean over inputs")


def ids_depend_on_the_input_only(case: Case) -> None:
    """In evaluation the same input has the same ids, whatever stands beside it and was quantized before.

    The same moment would be another target in every batch.
    """
    quantizer, x = made(case), inputs(40, DIM)
    first: Codes = quantizer(x)
    quantizer(inputs(90, DIM) * 3)
    again = quantizer(x)
    if not torch.equal(first.ids, again.ids):
        raise Broken("the same input has other ids when asked again: draw nothing, move nothing in forward")
    for size in (1, 4):
        if not torch.equal(first.ids, torch.cat([quantizer(piece).ids for piece in x.split(size)])):
            raise Broken("ids depend on what else is in the batch: normalise over the input's own dim only")


def ids_survive_autocast(case: Case) -> None:
    """The same fp32 input has the same ids under bf16 autocast.

    A run in bf16 would learn other targets than the same one in fp32.
    """
    quantizer, x = made(case), inputs(20_000, DIM)
    plain = quantizer(x).ids
    with torch.autocast("cpu", torch.bfloat16):
        under = quantizer(x).ids
    if not torch.equal(plain, under):
        share = float((plain != under).float().mean())
        raise Broken(
            f"{share:.1%} of the ids change under bf16: compute them inside torch.autocast(..., enabled=False)"
        )


def inputs_are_left_alone(case: Case) -> None:
    """The quantizer changes neither its input nor, in forward, what it saves.

    The frames are read again after it; and validation, or a second micro-batch, would move the codes.
    """
    quantizer, x = made(case).train(), inputs(40, DIM)
    before, state = x.clone(), snapshot(quantizer)
    quantizer(x)
    if not identical(before, x):
        raise Broken("forward writes into its input: copy before an operation in place")
    if keys := moved(state, snapshot(quantizer)):
        raise Broken(f"{keys[0]} is saved, and forward changes it: move it in on_step_end")
