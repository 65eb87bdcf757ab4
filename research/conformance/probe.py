"""Probes on tiny features."""

import torch

from research.conformance.case import Case
from research.conformance.rules import Broken
from research.conformance.tools import identical
from research.downstream import Answers, Features, Probe

PERIOD, PHONES, SPEECH = 0.02, 4, 0.2  # seconds per frame, labels, seconds per label
TRAIN, TEST, LABELS = 16, 6, 6  # utterances, labels per utterance


def tiny(count: int, seed: int, signal: float = 1.0) -> Features:
    """Noise, and on it, `signal` strong, the label."""
    source = torch.Generator().manual_seed(seed)
    drawn = torch.randint(PHONES, (count, LABELS), generator=source)  # (U, labels)
    spread = drawn.repeat_interleave(round(SPEECH / PERIOD), 1)  # (U, T)
    x = signal * torch.nn.functional.one_hot(spread, PHONES)  # (U, T, D)
    frames = list(x + torch.randn(x.shape, generator=source))
    segments = [[(k * SPEECH, (k + 1) * SPEECH, str(int(p))) for k, p in enumerate(row)] for row in drawn]
    return Features(frames, PERIOD, segments)


def ask(case: Case, signal: float = 1.0) -> Answers:
    probe: Probe = case.plugin()
    return probe.run(tiny(TRAIN, 1, signal), tiny(TEST, 2, signal), seed=0)


def headline(answers: Answers) -> float:
    return float(next(iter(answers.metrics(answers.counts.sum(0, keepdim=True)).values())))


def answers_add_up(case: Case) -> None:
    """Counts are one summand per test utterance; sums of them, many at a time, give finite metrics.

    Intervals draw test utterances again and add their counts up.
    """
    answers = ask(case)
    if len(answers.counts) != TEST:
        raise Broken(
            f"counts hold {len(answers.counts)} rows for {TEST} test utterances: give one row for each"
        )
    totals = answers.counts.sum(0, keepdim=True).expand(3, *answers.counts.shape[1:])  # (R, ...)
    metrics = answers.metrics(totals)
    if not metrics:
        raise Broken("metrics gives nothing: name at least one, the headline first")
    for name, value in metrics.items():
        if value.shape != (3,) or not torch.isfinite(value).all():
            raise Broken(f"'{name}' of 3 summed counts is {value.tolist()}: give one finite number for each")


def seed_decides_the_answers(case: Case) -> None:
    """The same seed gives the same answers, whatever torch's generator drew before.

    A score could not be repeated, and seeds would not be what it varies over.
    """
    probe: Probe = case.plugin()
    counts = []
    for before in (1, 2):
        torch.manual_seed(before)
        counts.append(probe.run(tiny(TRAIN, 1), tiny(TEST, 2), seed=0).counts)
    if not identical(*counts):
        raise Broken("the same seed gives other answers: draw from a generator of your own that `seed` seeds")


def features_are_left_alone(case: Case) -> None:
    """The probe does not write into features: other probes read them too.

    Those that run after it would be given something else.
    """
    probe: Probe = case.plugin()
    train, test = tiny(TRAIN, 1), tiny(TEST, 2)
    probe.run(train, test, 0)
    for given, fresh in ((train, tiny(TRAIN, 1)), (test, tiny(TEST, 2))):
        if not all(map(identical, given.frames, fresh.frames)) or given.segments != fresh.segments:
            raise Broken("run writes into the features: copy before an operation in place")


def knowledge_pays(case: Case) -> None:
    """Features that tell the label have a higher headline metric than noise.

    The first metric leads the table: more of it has to mean better.
    """
    told, noise = headline(ask(case, 10.0)), headline(ask(case, 0.0))
    if not told > noise + 0.1 * abs(noise):
        raise Broken(
            f"the first metric is {told:.4g} on features that tell the label, {noise:.4g} on noise: the headline "
            "comes first, and higher is better"
        )
