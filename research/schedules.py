"""Schedules are pure functions of the step, so that resuming needs no state.

The learning-rate schedules return a factor on the peak rate; `step` counts finished optimizer steps.
"""

import math
from dataclasses import dataclass


@dataclass(kw_only=True)
class Ramp:
    """Linear from `start` to `end` over `steps`, then constant."""

    start: float  # the value at step 0
    end: float  # the value from `steps` on
    steps: int  # of the optimizer

    def __call__(self, step: int) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)


@dataclass(kw_only=True)
class Decay:
    """`start * rate**step`, not below `end`."""

    start: float  # the value at step 0
    end: float  # the least value
    rate: float  # factor of a step

    def __call__(self, step: int) -> float:
        return max(self.end, self.start * self.rate**step)


@dataclass(kw_only=True)
class Schedule:
    """A factor on the learning rate. The first step already moves: warm-up counts from 1."""

    warmup: int = 0  # steps

    def __call__(self, step: int, steps: int) -> float:
        """Give the factor of step `step` (from 0) in a run of `steps`."""
        raise NotImplementedError

    def rise(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.warmup + 1))


@dataclass(kw_only=True)
class Constant(Schedule):
    """Warm up, then stay."""

    def __call__(self, step: int, steps: int) -> float:
        return self.rise(step)


@dataclass(kw_only=True)
class Noam(Schedule):
    """Warm up linearly, then fall with the square root of the step (arXiv 1706.03762, eq. 3), peak at `warmup`.

    NeMo's lr 5.0 at width d and w steps of warm-up is a peak of 5 / sqrt(d * w): 1.4e-3 for 512 and 25,000.
    """

    warmup: int = 25_000
    floor: float = 0.0  # smallest factor after warm-up

    def __call__(self, step: int, steps: int) -> float:
        n, w = step + 1, max(1, self.warmup)
        return n / w if n < w else max(self.floor, math.sqrt(w / n))


@dataclass(kw_only=True)
class Cosine(Schedule):
    """Warm up, then half a cosine down to `floor` at the last step."""

    warmup: int = 1000
    floor: float = 0.0

    def __call__(self, step: int, steps: int) -> float:
        if step < self.warmup:
            return self.rise(step)
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(kw_only=True)
class TriStage(Schedule):
    """Warm up, hold, then fall exponentially to `floor` (arXiv 1904.08779, section 3.2); shares of the run."""

    rise_share: float = 0.1
    hold_share: float = 0.4
    floor: float = 0.01

    def __call__(self, step: int, steps: int) -> float:
        done = (step + 1) / steps
        if done <= self.rise_share:
            return done / self.rise_share
        fall = (done - self.rise_share - self.hold_share) / max(1e-9, 1 - self.rise_share - self.hold_share)
        return float(self.floor ** min(1.0, max(0.0, fall)))
