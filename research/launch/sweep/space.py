"""Axes -> what Optuna draws from, and back to what is typed for one run."""

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from research.errors import HarkError
from research.launch.sweep.grid import Point, values_of
from research.launch.sweep.recipe import Recipe, parse

SEED = "run.seed"  # as an axis: every trial is run with all of its values


def space(recipe: Recipe) -> dict[str, BaseDistribution]:
    """Give what every axis but the seeds is drawn from; HarkError when there is none, or when it is empty."""
    axes = {key: text for key, text in recipe.axes.items() if key != SEED}
    if not axes:
        raise HarkError(
            "search: there is no axis to search; write some into grid, or type key=interval(0.1,0.5)"
        )
    return {key: distribution(key, text) for key, text in axes.items()}


def distribution(key: str, text: str) -> BaseDistribution:
    """Intervals and rising ranges keep their order and scale (`tag(log,...)`); all else are names, each as it is typed."""
    axis = parse(f"{key}={text}", "").value()
    try:
        if isinstance(axis, IntervalSweep):
            return interval(axis.start, axis.end, log="log" in axis.tags)
        if isinstance(axis, RangeSweep):
            values = sorted(axis.range())
            return interval(values[0], values[-1], log="log" in axis.tags, step=abs(axis.step))
    except (ValueError, IndexError) as error:
        raise HarkError(f"{key}={text}: nothing can be drawn from this ({error})") from None
    return CategoricalDistribution(values_of(key, text))


def interval(low: Any, high: Any, *, log: bool, step: Any = None) -> BaseDistribution:
    """Both ends are part of it. Whole numbers give whole numbers, `int(interval(1,9))` too."""
    if all(isinstance(end, int) for end in (low, high)):
        return IntDistribution(low, high, log, step or 1)
    return FloatDistribution(low, high, log, None if log else step)


def points(params: Mapping[str, Any], recipe: Recipe) -> list[Point]:
    """The runs of one trial: what was drawn, with every seed."""
    drawn = {key: str(value) for key, value in params.items()}
    seeds = values_of(SEED, recipe.axes[SEED]) if SEED in recipe.axes else []
    return [drawn | {SEED: seed} for seed in seeds] or [drawn]
