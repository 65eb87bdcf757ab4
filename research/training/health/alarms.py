"""The alarms: what each looks at, what it usually means, and what to try.

| alarm | goes off when | usually means |
|---|---|---|
| explosion | the mean loss or gradient norm of ten steps, the weights or what they give has grown too much | the learning rate |
| predictions | the mean prediction has far fewer codes than the targets | one answer for everything |
| targets | few codes are left among the targets | a quantizer, or what it quantizes, has collapsed |
| teacher | a teacher's output hardly varies over frames | a constant teacher: collapse |
| stuck_teacher | a teacher that follows the student is what it was at step 0, to the last bit | a decay of 1 |
| frozen_codes | so is a codebook that is trained or fitted | no gradient, no update |
| no_mask | no frame of the panel is masked | a masking that hides nothing |
| frontend | the frontend or `embed` hardly varies over frames, compared with step 0 | a trained frontend that has collapsed |
| rank | RankMe of the last layer is near 1, or far below step 0 | all frames point one way |
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from research.health import Limits


@dataclass(frozen=True)
class Reading:
    """A number that an alarm looks at."""

    what: str
    value: float
    limit: float
    low: bool = True  # it is bad below the limit, else above

    @property
    def bad(self) -> bool:
        return not (self.value >= self.limit if self.low else self.value <= self.limit)  # NaN is bad


@dataclass(frozen=True)
class Facts:
    now: dict[str, float]
    start: dict[str, float]  # the same at step 0
    limits: Limits

    def of(self, measure: str) -> Iterator[tuple[str, float]]:
        """A measure, of each part that has it."""
        for name, value in self.now.items():
            if name.partition("@")[0] == measure:
                yield name, value

    def ending(self, measure: str) -> Iterator[float]:
        """A stat of objectives, of each part of a sum of them."""
        return (value for name, value in self.now.items() if name == measure or name.endswith(f"_{measure}"))


@dataclass(frozen=True)
class Alarm:
    name: str
    meaning: str
    advice: str
    look: Callable[[Facts], Iterator[Reading]]
    patient: bool = True  # it waits for as many measurements as the settings say

    def judge(self, facts: Facts) -> Reading | None:
        """Give the first reading that is out of bounds."""
        return next((reading for reading in self.look(facts) if reading.bad), None)


def explosion(facts: Facts) -> Iterator[Reading]:
    first, limits = facts.now["loss_first"], facts.limits
    yield Reading("loss_mean", facts.now["loss_mean"], first + (limits.loss - 1) * abs(first), low=False)
    calm = facts.now["grad_norm_lowest"]
    yield Reading("grad_norm_mean", facts.now["grad_norm_mean"], limits.grad_norm * calm, low=False)
    before = facts.now["weight_norm_before"]
    yield Reading("weight_norm", facts.now["weight_norm"], limits.weight_norm * before, low=False)
    if facts.start.get("embed_std") and "embed_std" in facts.now:
        limit = limits.activations * facts.start["embed_std"]
        yield Reading("embed_std", facts.now["embed_std"], limit, low=False)


def predictions(facts: Facts) -> Iterator[Reading]:
    targets = list(facts.ending("target_ppl"))
    for name, value in facts.of("mean_pred_ppl") if targets else ():
        yield Reading(name, value, facts.limits.predictions * min(targets))


def targets(facts: Facts) -> Iterator[Reading]:
    for name in facts.now:
        kind = name.partition("@")[0]
        if kind == "code_ppl" or kind.endswith("target_ppl"):
            begun = facts.start.get(name, 0.0)
            yield Reading(name, facts.now[name], max(1.5, facts.limits.targets * begun))


def teacher(facts: Facts) -> Iterator[Reading]:
    for name, value in facts.of("teacher_std"):
        yield Reading(name, value, facts.limits.teacher)


def stuck(measure: str) -> Callable[[Facts], Iterator[Reading]]:
    def look(facts: Facts) -> Iterator[Reading]:
        for name, value in facts.of(measure) if facts.now.get("student_drift", 0.0) > 0 else ():
            yield Reading(name, value, MOVED)

    return look


MOVED = 1e-12  # a drift that is no rounding


def no_mask(facts: Facts) -> Iterator[Reading]:
    for name, value in facts.of("masked"):
        yield Reading(name, value, facts.limits.mask_ratio)


def frontend(facts: Facts) -> Iterator[Reading]:
    for name in ("frontend_std", "embed_std"):
        if name in facts.now:
            yield Reading(name, facts.now[name], facts.limits.frontend * facts.start.get(name, 0.0))


def rank(facts: Facts) -> Iterator[Reading]:
    ranks = [name for name in facts.now if name.startswith("rankme_")]
    if ranks:
        last = max(ranks, key=lambda name: int(name.rpartition("_")[2]))
        limit = max(1.5, facts.limits.rank * facts.start.get(last, 0.0))
        yield Reading(last, facts.now[last], limit)


ALARMS = (
    Alarm(
        "explosion",
        "training diverges",
        "lower optimizer.lr, lengthen schedule.warmup, or clip more (train.clip)",
        explosion,
        patient=False,
    ),
    Alarm(
        "predictions",
        "every frame is told the same code for sure",
        "lower optimizer.lr, or lengthen schedule.warmup",
        predictions,
    ),
    Alarm(
        "targets",
        "the targets have collapsed to few codes",
        "look at the quantizer and at what it quantizes; with quantizer=gumbel raise objective.diversity",
        targets,
    ),
    Alarm(
        "teacher",
        "the teacher gives nearly the same for every frame, so there is nothing to predict",
        "lower optimizer.lr, let the teacher keep more of itself (objective.keep), or normalise its layers",
        teacher,
    ),
    Alarm(
        "stuck_teacher",
        "the teacher still is what it was at step 0, though it was told to follow",
        "its decay is 1: lower it (objective.keep)",
        stuck("teacher_drift"),
    ),
    Alarm(
        "frozen_codes",
        "a codebook that should move still is what it was at step 0",
        "is it in param_groups, does its on_step_end run, does a gradient or an input reach it?",
        stuck("codes_drift"),
    ),
    Alarm(
        "no_mask",
        "nothing is masked, so there is nothing to learn from",
        "raise masking.prob, or shorten masking.length: are the utterances too short for a mask?",
        no_mask,
    ),
    Alarm(
        "frontend",
        "what the encoder reads is nearly the same for every frame",
        "lower optimizer.lr, or the share of the gradient that reaches a trained frontend",
        frontend,
    ),
    Alarm(
        "rank",
        "the frames of the last layer point all one way: representations have collapsed",
        "lower optimizer.lr, lengthen schedule.warmup, or look at the targets",
        rank,
    ),
)
