"""Probes on tiny features."""

from dataclasses import replace

import torch

from research.conformance.case import Case
from research.conformance.rules import Broken
from research.conformance.tools import identical
from research.downstream import Answers, Features, Probe

PERIOD, PHONES, SPEECH = 0.02, 4, 0.2  # seconds per frame, labels, seconds per label
TRAIN, DEV, TEST, LABELS = 16, 8, 9, 12  # utterances, labels per utterance


def tiny(probe: Probe, count: int, seed: int, signal: float = 1.0) -> Features:
    """Noise, and on it, `signal` strong, the label: that of a segment, or, with a key, that of the utterance."""
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randint(PHONES, (count, LABELS), generator=source)  # (U, labels)
    if probe.key:
        drawn = (torch.arange(count) % PHONES)[:, None].expand(-1, LABELS)
    spread = drawn.repeat_interleave(round(SPEECH / PERIOD), 1)  # (U, T)
    x = signal * torch.nn.functional.one_hot(spread, PHONES)  # (U, T, D)
    frames = list(x + torch.randn(x.shape, generator=source))
    speakers = [f"s{u // PHONES % 2}" for u in range(count)]  # each says every label
    if probe.key:
        return Features(frames, PERIOD, [[] for _ in frames], [str(int(p)) for p in drawn[:, 0]], speakers)
    segments = [[(k * SPEECH, (k + 1) * SPEECH, str(int(p))) for k, p in enumerate(row)] for row in drawn]
    return Features(frames, PERIOD, segments, [""] * count, speakers)


def given(probe: Probe, signal: float = 1.0) -> tuple[Features, Features, Features]:
    """Training, dev and test utterances."""
    return tiny(probe, TRAIN, 1, signal), tiny(probe, DEV, 3, signal), tiny(probe, TEST, 2, signal)


def ask(case: Case, signal: float = 1.0) -> tuple[Answers, Answers]:
    probe: Probe = case.plugin()
    return probe.run(*given(probe, signal), seed=0)


def headline(answers: Answers) -> float:
    return float(next(iter(answers.metrics(answers.counts.sum(0, keepdim=True)).values())))


def answers_add_up(case: Case) -> None:
    """Counts are one summand per utterance; sums of them, many at a time, give finite metrics.

    Intervals draw test utterances again and add their counts up.
    """
    for answers, part, count in zip(ask(case), ("dev", "test"), (DEV, TEST), strict=True):
        if len(answers.counts) != count:
            rows = f"counts hold {len(answers.counts)} rows for {count} {part} utterances"
            raise Broken(f"{rows}: give one row for each")
        totals = answers.counts.sum(0, keepdim=True).expand(3, *answers.counts.shape[1:])  # (R, ...)
        metrics = answers.metrics(totals)
        if not metrics:
            raise Broken("metrics gives nothing: name at least one, the headline first")
        for name, value in metrics.items():
            if value.shape != (3,) or not torch.isfinite(value).all():
                raise Broken(
                    f"'{name}' of 3 summed counts is {value.tolist()}: give one finite number for each"
                )


def seed_decides_the_answers(case: Case) -> None:
    """The same seed gives the same answers, whatever torch's generator drew before.

    A score could not be repeated, and seeds would not be what it varies over.
    """
    probe: Probe = case.plugin()
    counts = []
    for before in (1, 2):
        torch.manual_seed(before)
        counts.append([answers.counts for answers in probe.run(*given(probe), seed=0)])
    if not all(map(identical, *counts)):
        raise Broken("the same seed gives other answers: draw from a generator of your own that `seed` seeds")


def features_are_left_alone(case: Case) -> None:
    """The probe does not write into features: other probes read them too.

    Those that run after it would be given something else.
    """
    probe: Probe = case.plugin()
    parts = given(probe)
    probe.run(*parts, 0)
    for used, fresh in zip(parts, given(probe), strict=True):
        same = all(map(identical, used.frames, fresh.frames))
        if not same or (used.segments, used.labels) != (fresh.segments, fresh.labels):
            raise Broken("run writes into the features: copy before an operation in place")


def asking_teaches_nothing(case: Case) -> None:
    """Nothing is learnt or chosen on the test: whatever it holds, dev is answered alike, and settings stay.

    A score that its own test utterances had raised would not hold for others.
    """
    probe: Probe = case.plugin()
    train, dev, test = given(probe)
    other = replace(test, frames=[-3 * x.flip(0) for x in test.frames])
    (first, asked), (second, again) = probe.run(train, dev, test, 0), probe.run(train, dev, other, 0)
    if not identical(first.counts, second.counts) or asked.chosen != again.chosen:
        raise Broken(
            "other test utterances change what is answered on dev: learn on train, choose on dev alone"
        )


def knowledge_pays(case: Case) -> None:
    """Features that tell the label have a better headline metric than noise.

    The first metric leads the table: more of it has to mean better, unless the probe says that it falls.
    """
    probe: Probe = case.plugin()
    told, noise = headline(ask(case, 10.0)[1]), headline(ask(case, 0.0)[1])
    gain = noise - told if probe.falls else told - noise
    if not gain > 0.1 * abs(noise):
        better = "lower is better, as `falls` says" if probe.falls else "higher is better, or set `falls`"
        raise Broken(
            f"the first metric is {told:.4g} on features that tell the label, {noise:.4g} on noise: the headline "
            f"comes first, and {better}"
        )


def mixtures_tell_their_weights(case: Case) -> None:
    """Of several layers, where a probe `mixes`: one learned weight for each, which sum to 1, the telling one's first.

    They are kept beside the score.
    """
    probe: Probe = case.plugin()
    if not probe.mixes:
        return
    train, dev, test = (
        replace(
            told,
            frames=[torch.stack(pair, 1) for pair in zip(told.frames, noise.frames, strict=True)],
            layers=(0, 1),
        )
        for told, noise in zip(given(probe, 3.0), given(probe, 0.0), strict=True)
    )  # frames (T, 2, D): the second layer is noise
    weights = probe.run(train, dev, test, 0)[1].weights
    if len(weights) != 2 or abs(sum(weights) - 1) > 1e-4 or min(weights) < 0:
        raise Broken(f"weights are {weights} for 2 layers: give one for each, not negative, that sum to 1")
    if weights[0] <= weights[1]:
        raise Broken(f"weights are {weights} where only the first layer tells the label: learn them")
