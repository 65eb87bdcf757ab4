"""Frontends by themselves: frames, lengths, padding."""

import torch

from research.conformance.case import Case, littered, signal
from research.conformance.rules import Broken
from research.conformance.tools import close, identical
from research.contracts import Frontend, Seq


def made(case: Case) -> Frontend:
    frontend: Frontend = case.plugin()
    return frontend.eval()


def frames_are_a_hop_apart(case: Case) -> None:
    """`dim`, `hop` and the lengths are true: one frame more for every `hop` samples more, fp32, as wide as the longest.

    Frames are turned into seconds by it, for labels, probes and batches.
    """
    frontend = made(case)
    seconds = [1.0 + k * frontend.hop / frontend.sample_rate for k in range(5)]
    audio = signal(seconds, frontend.sample_rate)
    out = frontend(audio)
    if (out.lengths.diff() != 1).any() or out.lengths.device.type != "cpu":
        raise Broken(
            f"rows that are hop = {frontend.hop} samples longer each have {out.lengths.tolist()} frames, on "
            f"{out.lengths.device}: count one more each, on the host"
        )
    if abs(int(out.lengths[0]) - int(audio.lengths[0]) / frontend.hop) > 2:
        raise Broken(
            f"{int(audio.lengths[0])} samples give {int(out.lengths[0])} frames, hop = {frontend.hop} promises about "
            f"{int(audio.lengths[0]) // frontend.hop}"
        )
    wanted = (5, int(out.lengths.max()), frontend.dim)
    if out.x.shape != wanted or out.x.dtype != torch.float32:
        raise Broken(
            f"it gives {tuple(out.x.shape)} {out.x.dtype}, dim and lengths promise {wanted} torch.float32"
        )


def frames_ignore_padding(case: Case) -> None:
    """A row alone and the same row in a wider batch, garbage after its end, give the same frames.

    What an utterance is turned into would depend on the batch that it was put in.
    """
    frontend = made(case)
    audio = signal((1.2, 0.7, 0.3), frontend.sample_rate)
    together = frontend(littered(audio, 3000))
    for row, length in enumerate(audio.lengths.tolist()):
        alone = frontend(Seq(audio.x[row : row + 1, :length], audio.lengths[row : row + 1]))
        size = int(alone.lengths)
        if together.lengths[row] != size:
            raise Broken(
                f"a row of {length} samples gets {size} frames alone, {int(together.lengths[row])} with padding: count from its own length"
            )
        if not close(together.x[row, :size], alone.x[0, :size]):
            raise Broken(
                f"the frames of a row of {length} samples depend on what stands after its end: silence it first, and "
                "normalise over valid frames only"
            )


def audio_is_left_alone(case: Case) -> None:
    """The frontend does not write into the audio: the same samples are read again.

    The noisy copy and the targets are made of it afterwards.
    """
    frontend = made(case).train()
    audio = signal((0.5, 0.3), frontend.sample_rate)
    before = audio.x.clone()
    frontend(audio)
    if not identical(before, audio.x):
        raise Broken("forward writes into its input: copy before an operation in place")


def short_audio_is_finite(case: Case) -> None:
    """Silence, a few samples and none give finite frames, and lengths that are not negative.

    Real data holds such clips, and one frame that is not finite ends the run.
    """
    frontend = made(case).train()
    rate, hop = frontend.sample_rate, frontend.hop
    for samples in ([0], [1], [hop - 1, 0], [hop], [rate // 10, 1], [rate, 0]):
        for audio in (
            signal([n / rate for n in samples], rate),
            Seq(torch.zeros(len(samples), max(samples)), torch.tensor(samples)),
        ):
            out = frontend(audio)
            if (out.lengths < 0).any() or (out.lengths > out.x.size(1)).any():
                raise Broken(
                    f"rows of {samples} samples get the lengths {out.lengths.tolist()} in {tuple(out.x.shape)}: clamp them to 0 and to the frames that are there"
                )
            if not torch.isfinite(out.x).all():
                raise Broken(
                    f"rows of {samples} samples give frames that are not finite: guard the division or logarithm"
                )
