"""Encoders by themselves: frames, layers, padding."""

import torch

from research import registry
from research.conformance.case import Case, littered
from research.conformance.rules import Broken
from research.conformance.tools import Still, close, identical, snapshot
from research.contracts import Encoder, Seq
from research.training.optimizer import end_step


def made(case: Case) -> tuple[Encoder, int]:
    """Give the encoder in evaluation, and the dim of the frontend before it."""
    dim = registry.build(case.config().frontend).dim
    encoder: Encoder = case.plugin(dim_in=dim)
    return encoder.eval(), dim


def frames(lengths: list[int], dim: int, seed: int = 0) -> Seq:
    """Random frontend frames (B, S, F)."""
    x = torch.randn(len(lengths), max(lengths), dim, generator=torch.Generator().manual_seed(seed))
    seq = Seq(x, torch.tensor(lengths))
    return seq.replace(x * seq.valid[..., None])


def frames_are_a_stride_apart(case: Case) -> None:
    """`embed` gives one frame for every `stride` frontend frames, rounded up, and the lengths say so.

    Targets are stacked by the stride: frames that are counted otherwise are compared with another
    moment's target.
    """
    encoder, dim = made(case)
    for size in range(1, 3 * encoder.stride + 2):
        lengths = [size, (size + 1) // 2, 1, 0]
        out = encoder.embed(frames(lengths, dim))
        wanted = [-(-length // encoder.stride) for length in lengths]
        if out.x.shape != (4, wanted[0], encoder.dim):
            raise Broken(
                f"embed makes {tuple(out.x.shape)} of {size} frames in 4 rows, stride {encoder.stride} and dim "
                f"{encoder.dim} promise {(4, wanted[0], encoder.dim)}: T = ceil(S / stride)"
            )
        if out.lengths.tolist() != wanted or out.lengths.device.type != "cpu":
            raise Broken(
                f"embed gives the lengths {out.lengths.tolist()} on {out.lengths.device} for {lengths}, stride "
                f"{encoder.stride} promises {wanted} on the host"
            )


def layers_are_those_asked(case: Case) -> None:
    """`context` gives the layers that were asked for, in that order; layer `depth` is the last.

    Probes and losses on layers would score others than they name.
    """
    encoder, dim = made(case)
    embedded = encoder.embed(frames([40, 17], dim))
    asked = [encoder.depth, 0, encoder.depth // 2]
    plain, all_of_them = encoder.context(embedded), encoder.context(embedded, range(encoder.depth + 1))
    some, whole = encoder.context(embedded, asked), encoder(frames([40, 17], dim), asked)
    if plain.layers:
        raise Broken(
            "context gives layers that nobody asked for, and they cost memory: give those of `layers` only"
        )
    if [y.shape for y in all_of_them.layers] != [plain.last.x.shape] * (encoder.depth + 1):
        raise Broken(
            f"context gives not (B, T, D) for each of the layers 0 to depth = {encoder.depth}: layer 0 is what the first block reads"
        )
    if not all(identical(y, all_of_them.layers[k]) for y, k in zip(some.layers, asked, strict=True)):
        raise Broken(
            f"the layers {asked} are others than the same ones asked for with all: keep the order asked for"
        )
    if not (identical(some.layers[0], plain.last.x) and identical(some.last.x, plain.last.x)):
        raise Broken(
            "layer `depth` is not `last`, or `last` depends on what was asked for: give what the last block gives, after any last norm"
        )
    if not identical(whole.last.x, plain.last.x) or not torch.equal(plain.last.lengths, embedded.lengths):
        raise Broken(
            "forward is not context(embed(feats)), or context changes the lengths: leave forward as it is inherited"
        )


def frames_ignore_padding(case: Case) -> None:
    """A row alone and the same row in a wider batch, garbage after its end, give the same frames.

    What an utterance is encoded to would depend on the batch that it was put in.
    """
    encoder, dim = made(case)
    depths = range(encoder.depth + 1)
    batch = frames([61, 40, 9], dim)
    together = encoder(littered(batch, 3 * encoder.stride + 1), depths)
    for row, length in enumerate(batch.lengths.tolist()):
        alone = encoder(Seq(batch.x[row : row + 1, :length], batch.lengths[row : row + 1]), depths)
        size = int(alone.last.lengths)
        if together.last.lengths[row] != size:
            raise Broken(
                f"a row of {length} frames gets {size} alone, {int(together.last.lengths[row])} with padding: count from its own length"
            )
        for depth in depths:
            if not close(together.layers[depth][row, :size], alone.layers[depth][0, :size]):
                raise Broken(
                    f"layer {depth} of a row of {length} frames depends on what stands after its end: mask attention "
                    "keys and silence padding before every convolution and norm over time"
                )


def statistics_ignore_padding(case: Case) -> None:
    """In training, padding changes neither the frames of a row nor the state that its step leaves.

    Norms would learn how much silence a batch happened to have.
    """
    outcomes = []
    for padding in (0, 40):
        encoder, dim = made(case)
        feats = littered(frames([61], dim), padding)
        with Still():
            out = encoder.train()(feats).last
        end_step(encoder, 1)
        outcomes.append((out.x[:, : int(out.lengths)], snapshot(encoder)))
    (alone, state), (padded, padded_state) = outcomes
    if not close(padded, alone):
        raise Broken(
            "padding changes a row's frames in training: take means and variances over valid frames only"
        )
    for key, value in state.items():
        if not close(padded_state[key], value):
            raise Broken(f"{key} counts padding: collect statistics over valid frames only")


def frames_are_left_alone(case: Case) -> None:
    """The encoder does not write into what it reads: the targets are made of the same frames.

    Targets are made of the same tensor afterwards.
    """
    encoder, dim = made(case)
    feats = frames([40, 17], dim)
    before = feats.x.clone()
    encoder.train()(feats, [0])
    embedded = encoder.embed(feats)
    kept = embedded.x.clone()
    encoder.context(embedded)
    for what, one, other in (("embed", before, feats.x), ("context", kept, embedded.x)):
        if not identical(one, other):
            raise Broken(f"{what} writes into its input: copy before an operation in place")


def frames_hear_no_further_than_they_say(case: Case) -> None:
    """What comes more than `ahead` frames after a frame changes nothing at it, in any layer.

    Causal objectives trust it: a frame that hears what comes next has nothing to predict.
    """
    encoder, dim = made(case)
    if encoder.ahead is None:
        return
    depths, rows = range(encoder.depth + 1), encoder.ahead + 8
    size = (rows + encoder.ahead + 2) * encoder.stride
    feats = frames([size], dim)
    ends = (torch.arange(rows) + 1 + encoder.ahead) * encoder.stride  # (B,) row t keeps what frame t may hear
    later = torch.arange(size) >= ends[:, None]  # (B, S)
    other = torch.where(later[..., None], 10 * frames([size], dim, seed=1).x, feats.x)  # (B, S, F)
    plain = encoder(feats, depths).layers
    changed = encoder(Seq(other, feats.lengths.expand(rows)), depths).layers
    for depth in depths:
        for t in range(rows):
            if not close(changed[depth][t, : t + 1], plain[depth][0, : t + 1]):
                raise Broken(
                    f"layer {depth} of frame {t} or of one before it hears more than ahead = {encoder.ahead} frames "
                    "after itself: count what attention and convolutions of all layers read, or say None"
                )
