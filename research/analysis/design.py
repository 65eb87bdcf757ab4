"""Which runs of a frame answer which question: cells of a design by seed, and how they are paired."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from research.analysis.labels import plain
from research.errors import HarkError, nearest

OFF = ("none", "False", "default", "")  # levels that others are naturally compared with

Fixed = Mapping[str, Any]  # factor -> level
Sides = Sequence[tuple[int, Fixed]]  # cells that are added, and taken away


@dataclass(frozen=True)
class Design:
    """A metric of the runs that count, laid out by what they are of."""

    metric: str
    factors: list[str]
    runs: pd.DataFrame  # all of them; `told` says why one does not count, "" if it does
    table: pd.DataFrame  # cells (levels of the factors, and "") x seeds: the metric, NaN where there is none
    attrs: dict[Hashable, Any]  # of the frame


@dataclass(frozen=True)
class Question:
    """A difference that is taken within each seed: of means of cells, the same cells on both sides."""

    factor: str
    level: Any
    against: Any
    ours: Sides
    theirs: Sides


def design(frame: pd.DataFrame, metric: str) -> Design:
    """Lay out a frame of `frame.runs` by its factors.

    HarkError: the metric or a factor is no column, or the frame does not say its factors.
    """
    if "factors" not in frame.attrs:
        raise HarkError(
            "frame: does not say what its factors are; set frame.attrs['factors'] = [COLUMN, ...]"
        )
    names = list(frame.attrs["factors"])
    for column in (metric, *names):
        if column not in frame:
            raise HarkError(f"{column}: is no column of the runs{nearest(column, map(str, frame))}")
    runs = frame.reset_index(drop=True)
    runs = runs.assign(**{name: runs[name].map(hashable) for name in names})
    runs["told"] = reasons(runs, metric)
    counted = runs[runs["told"] == ""].assign(cell="")
    table = counted.set_index([*names, "cell", "seed"])[metric].astype(float).unstack("seed")
    return Design(metric, names, runs, table, frame.attrs)


def hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float) and value == value else plain(value)  # noqa: PLR0124  NaN


def reasons(runs: pd.DataFrame, *metrics: str) -> "pd.Series[str]":
    """Say of each run why it is not averaged; "" where it is.

    Runs that could be, but are of one configuration and seed, are no two seeds, and none of them is the right one. A
    frame that does not say its factors does not tell which these are.
    """
    told = pd.Series("", index=runs.index)
    for metric in metrics:
        told[~np.isfinite(runs[metric].astype(float))] = f"without a finite {metric}"
    told[runs["seed"].isna()] = "without a known seed"
    if "schema" in runs:
        newest = runs["schema"].max()
        told[runs["schema"].notna() & (runs["schema"] != newest)] = f"not of schema {newest}"
    if "state" in runs:
        told = told.mask(runs["state"] != "done", runs["state"])
    if "factors" in runs.attrs:
        of = runs.loc[told == "", [*runs.attrs["factors"], "seed"]]
        twice = of.apply(lambda column: column.map(hashable)).duplicated(keep=False)
        told[twice.index[twice]] = "not the only one of its configuration and seed"
    return told


def known(plan: Design, names: Iterable[str]) -> None:
    """Raise a HarkError unless all of these are factors."""
    for name in names:
        if name not in plan.factors:
            there = ", ".join(plan.factors)
            raise HarkError(
                f"{name}: is no factor of the runs{nearest(name, plan.factors)}; there are {there}"
            )


def levels(plan: Design, factor: str, first: Any = None) -> list[Any]:
    """Levels of a factor in their order, the one to compare with first: `first`, or else what is off, or the least.

    HarkError: `first` is no level of the factor.
    """
    found = sorted(plan.runs[factor].unique(), key=rank)
    if first is None:
        return found
    start = [level for level in found if level == first or plain(level) == plain(first)]
    if not start:
        there = ", ".join(map(plain, found))
        raise HarkError(f"baseline {factor}={plain(first)}: no run has it; there are {there}")
    return start + [level for level in found if level not in start]


def rank(level: Any) -> tuple[bool, bool, float, str]:
    try:
        number = float(level)
    except ValueError:
        number = np.nan
    return str(level) not in OFF, np.isnan(number), 0.0 if np.isnan(number) else number, str(level)


def cells(table: pd.DataFrame, sides: Sides) -> pd.DataFrame:
    """Add and take away cells: the other factors' levels x seeds, NaN where one of the runs is not there."""
    parts = []
    for sign, fixed in sides:
        same = [table.index.get_level_values(factor) == level for factor, level in fixed.items()]
        parts.append(sign * table[np.logical_and.reduce(same)].droplevel(list(fixed)))
    return sum(parts[1:], parts[0])


def balanced(found: pd.DataFrame) -> pd.DataFrame:
    """Drop cells and seeds until every cell has every seed, always what has the largest share of holes (seeds first).

    A mean over unequal cells would mix the effect with that of what is missing.
    """
    while found.isna().any(axis=None):
        holes = found.isna().to_numpy()
        rows, columns = holes.mean(1), holes.mean(0)
        if rows.max() > columns.max():
            found = found.drop(index=found.index[rows.argmax()])
        else:
            found = found.drop(columns=found.columns[columns.argmax()])
    return found


def whole(plan: Design) -> Design:
    """Keep the seeds that have every cell of the design: only then do effects of one factor not depend on another's."""
    every = pd.MultiIndex.from_product([*(levels(plan, factor) for factor in plan.factors), [""]])
    table = plan.table.reindex(every)
    table.index.names = plan.table.index.names
    lacking = table.isna().sum()
    short = {
        seed: f"of seed {plain(seed)}, which lacks {n} of {len(every)} cells"
        for seed, n in lacking[lacking > 0].items()
    }
    told = plan.runs["told"].where(
        plan.runs["told"] != "", plan.runs["seed"].map(lambda seed: short.get(seed, ""))
    )
    return replace(plan, runs=plan.runs.assign(told=told), table=table.drop(columns=list(short)))
