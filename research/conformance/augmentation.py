"""Augmentations by themselves: what they may change, and what they must say."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor

from research.conformance.case import Case, signal
from research.conformance.rules import Broken, crash
from research.conformance.tools import identical
from research.conformance.waiting import no_values
from research.contracts import Augmentation, Batch, Seq
from research.training.data import silence
from research.training.seeds import seed_all

SEEDS = range(20)
SECONDS = (0.6, 0.5, 0.4, 0.2)


def clips(rate: int, *, noise: bool, seconds: tuple[float, ...] = SECONDS) -> Batch:
    corpus = signal([0.3] * len(seconds), rate, seed=8) if noise else None
    ids = [str(i) for i in range(len(seconds))]
    labels = Seq(torch.arange(len(seconds))[:, None, None], torch.ones(len(seconds), dtype=torch.long))
    return Batch.clean(signal(seconds, rate), noise=corpus, labels=labels, ids=ids)


def augmented(case: Case) -> Iterator[tuple[Batch, Batch]]:
    """Batches before and after, of many seeds, with and without a noise corpus."""
    augment: Augmentation = case.plugin()
    for seed in SEEDS:
        batch = clips(case.config().data.sample_rate, noise=seed % 2 == 0)
        before = deepcopy(batch)
        seed_all("augmented", seed)
        yield before, augment(batch)


def clean_signal_is_left_alone(case: Case) -> None:
    """Nothing but `noisy` and `changed` is touched: audio, noise, labels and names stay bit-identical.

    Targets are of the clean signal, and other augmentations read the rest.
    """
    for before, after in augmented(case):
        if not same(before.audio, after.audio):
            raise Broken("batch.audio is changed: the targets are of the clean signal; write into a copy")
        if not same(before.noise, after.noise):
            raise Broken("batch.noise is changed: write into a copy, hand it on")
        if not same(before.labels, after.labels) or after.ids != before.ids:
            raise Broken("labels or names are lost: hand on all fields of the batch")


def same(before: Seq | None, after: Seq | None) -> bool:
    if before is None or after is None:
        return before is after
    return identical(before.x, after.x) and torch.equal(before.lengths, after.lengths)


def changed_rows_are_listed(case: Case) -> None:
    """`changed` lists the rows that differ from the clean signal, no more and no fewer, once, on the host.

    Rows that are not listed are taken for clean, and their frames are computed once for both.
    """
    for _, after in augmented(case):
        pairs = [(samples(after.audio, row), samples(after.noisy, row)) for row in range(len(after.ids))]
        rows = [row for row, (clean, noisy) in enumerate(pairs) if not torch.equal(clean, noisy)]
        listed = after.changed
        if listed.dtype != torch.int64 or listed.device.type != "cpu":
            raise Broken(
                f"changed is {listed.dtype} on {listed.device}: give row numbers, int64, on the host"
            )
        if sorted(listed.tolist()) != rows:
            raise Broken(
                f"rows {rows} differ from the clean signal, changed lists {listed.tolist()}: a row that is not listed "
                "must be bit-identical, its features are computed once"
            )


def samples(seq: Seq, row: int) -> Tensor:
    return seq.x[row, : int(seq.lengths[row])]  # (N',)


def earlier_changes_are_kept(case: Case) -> None:
    """It hears what an augmentation before it made: it starts from `noisy`, and what was listed stays listed.

    In a chain, the part before it would have done nothing.
    """
    augment: Augmentation = case.plugin()
    for seed in SEEDS:
        batch = clips(case.config().data.sample_rate, noise=True)
        seed_all("augmented", seed)
        alone = augment(batch)
        before = batch.augmented(batch.audio.replace(-batch.audio.x), torch.arange(len(batch.ids)))
        seed_all("augmented", seed)
        after = augment(before)
        if after.changed.tolist() != before.changed.tolist():
            raise Broken(
                f"rows {before.changed.tolist()} were changed before, it lists {after.changed.tolist()}: add rows by `batch.augmented(noisy, rows)`"
            )
        for row in range(len(batch.ids)):
            heard = samples(after.noisy, row)
            if row not in alone.changed and not torch.equal(heard, samples(before.noisy, row)):
                raise Broken("a row that it does not take loses what was done to it before: hand noisy on")
            if row in alone.changed and torch.equal(heard, samples(alone.noisy, row)):
                raise Broken(
                    "what was done to a row before makes no difference: start from noisy, not from audio"
                )


def lengths_and_padding_stay(case: Case) -> None:
    """Lengths and padding of `noisy` are those of `audio`, or honest ones of its own; every sample is finite.

    Student and targets go in step: a noise clip's length in place of the utterance's cuts speech off.
    """
    for _, after in augmented(case):
        noisy, audio = after.noisy, after.audio
        if not case.plugin().keeps_time:
            check_own_lengths(noisy, len(audio.lengths))
            continue
        if noisy.x.shape != audio.x.shape or not torch.equal(noisy.lengths, audio.lengths):
            raise Broken(
                f"noisy is {tuple(noisy.x.shape)}, audio {tuple(audio.x.shape)}: keep shape and lengths, or set keeps_time = False"
            )
        if (noisy.x != audio.x)[~audio.valid].any():
            raise Broken("samples past the end of a row are changed: mix inside the row only")
        if not torch.isfinite(noisy.x).all():
            raise Broken("noisy holds samples that are not finite: guard divisions, roots and logarithms")


def check_own_lengths(noisy: Seq, rows: int) -> None:
    """Lengths on the host that fit their samples, silence after them."""
    lengths = noisy.lengths
    if lengths.shape != (rows,) or lengths.dtype != torch.int64 or lengths.device.type != "cpu":
        raise Broken(
            f"lengths are {lengths.dtype} {tuple(lengths.shape)} on {lengths.device}: int64 ({rows},) on the host"
        )
    if len(noisy.x) != rows or int(lengths.max()) > noisy.x.size(1):
        raise Broken(
            f"noisy is {tuple(noisy.x.shape)}, its lengths are {lengths.tolist()}: give every row the samples that it has"
        )
    if noisy.x[~noisy.valid].any():
        raise Broken("samples past the end of a row are not zero: multiply by `valid`")
    if not torch.isfinite(noisy.x).all():
        raise Broken("noisy holds samples that are not finite: guard divisions, roots and logarithms")


def seed_decides_the_noise(case: Case) -> None:
    """The same seed gives the same noise; if it ever changes anything, other seeds give other noise.

    Runs could not be repeated or resumed; and one noise for ever is soon learned by heart.
    """
    first = [after for _, after in augmented(case)]
    again = [after for _, after in augmented(case)]
    if not all(torch.equal(one.noisy.x, other.noisy.x) for one, other in zip(first, again, strict=True)):
        raise Broken(
            "the same seed gives two signals: draw from torch's default generators, keep nothing between calls"
        )
    for alike in (first[::2], first[1::2]):  # with and without a noise corpus; only the seed tells them apart
        changes = any(not torch.equal(after.noisy.x, after.audio.x) for after in alike)
        if changes and all(torch.equal(after.noisy.x, alike[0].noisy.x) for after in alike):
            raise Broken("all seeds give the same signal: draw from torch's default generators, every time")


def odd_clips_are_harmless(case: Case) -> None:
    """One row, tiny rows, rows of no samples and silence neither crash nor give NaN.

    Real data holds such clips, and one sample that is not finite ends the run.
    """
    augment: Augmentation = case.plugin()
    rate = case.config().data.sample_rate
    empty = Seq(torch.zeros(2, 160), torch.zeros(2, dtype=torch.long))
    odd = {
        "one row": clips(rate, noise=False, seconds=(0.3,)),
        "one row and a noise corpus": clips(rate, noise=True, seconds=(0.3,)),
        "a row of no samples": clips(rate, noise=True, seconds=(0.3, 0.0)),
        "a row of one sample": clips(rate, noise=False, seconds=(0.3, 1 / rate)),
        "silence": silence(rate),
        "a batch of no samples": Batch.clean(empty, noise=empty),
    }
    for what, batch in odd.items():
        for seed in SEEDS:
            seed_all("odd", seed)
            try:
                out = augment(batch)
            except Exception as error:
                raise Broken(f"{what} crashes it: {crash(error)}") from error
            if not torch.isfinite(out.noisy.x).all():
                raise Broken(
                    f"{what} gives samples that are not finite: guard the division, a silent row has no energy"
                )


def device_is_never_read(case: Case) -> None:
    """Nothing waits for the device.

    Whatever reads a tensor back makes the host wait for the device in every step.
    """
    augment: Augmentation = case.plugin()
    for noise in (False, True):
        batch = clips(case.config().data.sample_rate, noise=noise)
        with no_values() as device:
            augment.to(device, non_blocking=True)
            try:
                for seed in SEEDS:
                    seed_all("device", seed)
                    augment(batch.to(device))
            except Exception as error:
                raise Broken(
                    f"{crash(error)}. On a device without values this line fails: it reads a tensor back, or mixes "
                    "tensors of host and device; draw and decide on the host"
                ) from error
