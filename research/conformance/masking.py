"""Maskings by themselves."""

import torch
from torch import Tensor

from research.conformance.case import Case
from research.conformance.rules import Broken
from research.contracts import Masking, Seq
from research.training.seeds import seed_all

SIZES = (1, 2, 7, 8, 9, 31, 40, 63, 64, 65, 120, 400)


def masks(case: Case, lengths: list[int], size: int, seed: int = 0) -> Tensor:
    """(B,) -> (B, size)."""
    masking: Masking = case.plugin()
    seed_all("masks", seed)
    mask: Tensor = masking(torch.tensor(lengths), size)
    return mask


def masks_are_on_the_host(case: Case) -> None:
    """A mask is a bool tensor (B, size) on the host, whatever the lengths, and the lengths stay as they are.

    Objectives choose frames by it on the host, so that no step waits for the device.
    """
    for size in SIZES:
        for lengths in ([size], [size, size // 2, 0], [0, 0], [size // 3, 1]):
            given = torch.tensor(lengths)
            mask = case.plugin()(given, size)
            if mask.shape != (len(lengths), size) or mask.dtype != torch.bool or mask.device.type != "cpu":
                raise Broken(
                    f"lengths {lengths} and size {size} give {tuple(mask.shape)} {mask.dtype} on {mask.device}: "
                    f"{(len(lengths), size)} torch.bool on the host is promised"
                )
            if given.tolist() != lengths:
                raise Broken("forward writes into the lengths: work on a copy")


def padding_is_never_masked(case: Case) -> None:
    """No mask covers a frame past the end of its row.

    What is masked becomes a target, and silence after the end is none.
    """
    for seed in range(20):
        lengths = [*SIZES, 0]
        mask = masks(case, lengths, max(SIZES) + 5, seed)
        if mask[torch.arange(mask.size(1)) >= torch.tensor(lengths)[:, None]].any():
            raise Broken(
                "a frame past the end of its row is masked: padding would become a target; compare with `lengths`, not with `size`"
            )


def rows_that_can_be_masked_are(case: Case) -> None:
    """A row of a length that is ever masked is always masked: none of them is left without a target by chance.

    A batch in which no row drew a mask has no target: a mean over none is NaN, and its work is lost.
    """
    draws = 50
    for length in SIZES:
        masked = masks(case, [length] * draws, length).any(1)
        if masked.any() and not masked.all():
            raise Broken(
                f"of {draws} rows of {length} frames {int((~masked).sum())} have no masked frame, the others have: "
                "give a row that drew none a mask at a random place"
            )
    if not masks(case, [max(SIZES)], max(SIZES)).any():
        raise Broken(
            f"a row of {max(SIZES)} frames has no masked frame, so nothing would be learned: mask some, or set hides = False"
        )


def rows_draw_their_own(case: Case) -> None:
    """A row's mask is its own: other rows have others, and beside a short row a long one is masked to its end.

    One mask for all, made for the shortest row, leaves whole utterances without a target.
    """
    lengths = [max(SIZES), max(SIZES), max(SIZES) // 2]
    drawn = [masks(case, lengths, max(SIZES), seed) for seed in range(50)]
    if all(torch.equal(mask[0], mask[1]) for mask in drawn):
        raise Broken("two rows of a batch always have the same mask: draw one for each")
    if not any(mask[:2, max(SIZES) // 2 :].any() for mask in drawn):
        raise Broken(
            "beside a row of half its length, a row is never masked in its second half: draw from its own length"
        )


def seed_decides_the_mask(case: Case) -> None:
    """The same seed gives the same mask, whatever was drawn before; another seed gives another one.

    Runs could not be repeated or resumed; and one mask for ever hides the same frames for ever.
    """
    masking: Masking = case.plugin()
    drawn = []
    for seed in (0, 0, 1):
        seed_all("masks", seed)
        drawn.append(masking(torch.tensor([400] * 4), 400))
    if not torch.equal(drawn[0], drawn[1]):
        raise Broken(
            "the same seed gives two masks: draw from torch's default generator only, keep nothing from the call before"
        )
    if torch.equal(drawn[0], drawn[2]):
        raise Broken("two seeds give the same mask: draw from torch's default generator")


def channels_are_hidden_whole(case: Case) -> None:
    """`channels` changes whole channels of a row or nothing, to one value, by the seed alone; padding and input stay.

    A channel that is left in places, or filled with many values, still tells what was in it.
    """
    masking: Masking = case.plugin()
    source = torch.Generator().manual_seed(0)
    x = Seq(torch.randn(8, 30, 128, generator=source), torch.tensor([30, 20, 7, 1, 30, 30, 0, 30]))
    before = x.x.clone()
    outs = []
    for seed in (0, 0, 1):
        seed_all("channels", seed)
        outs.append(masking.channels(x))
    out = outs[0]
    if not torch.equal(x.x, before):
        raise Broken("channels writes into its input: give a new tensor")
    if out.x.shape != before.shape or out.x.dtype != before.dtype or not torch.equal(out.lengths, x.lengths):
        raise Broken("channels gives another shape, dtype or other lengths: hide values, cut nothing")
    changed = out.x != before  # (B, T, C)
    if changed[~x.valid].any():
        raise Broken("channels changes frames past the end of a row: leave padding as it is")
    hidden = changed.any(1, keepdim=True)  # (B, 1, C)
    if (changed != hidden & x.valid[..., None]).any():
        raise Broken("a channel is hidden in some frames of a row and not in others: that is the mask's work")
    if changed.any() and out.x[changed].unique().numel() > 1:
        raise Broken("hidden channels hold several values: something of what is hidden could shine through")
    if not torch.equal(outs[0].x, outs[1].x):
        raise Broken("the same seed hides other channels: draw from torch's default generator only")
    if changed.any() and torch.equal(outs[0].x, outs[2].x):
        raise Broken("two seeds hide the same channels: draw them from torch's default generator, every time")
