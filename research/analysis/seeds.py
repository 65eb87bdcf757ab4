"""Runs that differ in their seed only are one configuration: its mean over the seeds, and how sure that is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from research.analysis.design import rank, reasons
from research.analysis.labels import level
from research.errors import HarkError, nearest

LEVEL = 0.95


def differing(frame: pd.DataFrame) -> list[str]:
    """Give the factors that still take several values in a frame of runs, or in a part of one."""
    return [name for name in frame.attrs.get("factors", []) if frame[name].nunique(dropna=False) > 1]


def finished(frame: pd.DataFrame, *metrics: str) -> pd.DataFrame:
    """Give the runs that count (see `design.reasons`) for all of these metrics. HarkError: a metric that none of them has."""
    for name in metrics:
        if name not in frame:
            raise HarkError(f"{name}: no run has it{nearest(name, map(str, frame))}; see the frame's columns")
    told = reasons(frame, *metrics)
    used = frame[told == ""]
    if used.empty:
        why = ", ".join(told.unique())
        raise HarkError(f"{' and '.join(metrics)}: no run counts ({why}); train or probe first")
    return used


def groups(frame: pd.DataFrame, by: str | Sequence[str] | None = None) -> dict[str, pd.DataFrame]:
    """Part runs, or lines of runs, by the levels of some factors (all that differ, if none is named), in their order.

    Of the other factors only the levels that every part has are kept: parts differ in nothing but `by`.
    HarkError: a name that is no column, or parts that have nothing else in common.
    """
    names = differing(frame) if by is None else [by] if isinstance(by, str) else list(by)
    for name in names:
        if name not in frame:
            raise HarkError(
                f"{name}: is no factor{nearest(name, map(str, frame))}; factors are {', '.join(differing(frame))}"
            )
    if not names:
        return {str(frame["name"].iloc[0]) if "name" in frame else "all runs": frame}
    parts = dict(iter(shared(frame, names).groupby(names, dropna=False)))
    found = {}
    for key in sorted(parts, key=lambda key: [rank(value) for value in key]):
        parts[key].attrs = frame.attrs
        found[level(dict(zip(names, key, strict=True)))] = parts[key]
    return found


def shared(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Keep the settings of the other factors that every level of the named ones was tried with."""
    others = [name for name in differing(frame) if name not in names]
    if not others:
        return frame
    setting = frame.groupby(others, dropna=False).ngroup()
    tried = setting.groupby([frame[name] for name in names], dropna=False).agg(set)
    kept = frame[setting.isin(set.intersection(*tried))]
    if kept.empty:
        raise HarkError(f"by {', '.join(names)}: nothing else is equal; name {', '.join(others)} too")
    return kept


def per_seed(part: pd.DataFrame, value: str, index: Sequence[str] = ()) -> pd.DataFrame:
    """One column per seed, one row per level of `index`: the mean over the settings of all other factors.

    A seed that misses a setting has no value: means are of the same settings, or not there.
    """
    others = [name for name in differing(part) if name not in index]
    setting = part.groupby(others, dropna=False).ngroup() if others else 0
    cells = part.assign(setting=setting, all=0).groupby([*(index or ["all"]), "seed", "setting"])[value]
    seen = cells.mean(skipna=False).unstack("setting").mean(axis=1, skipna=False)
    return seen.unstack("seed").dropna(axis=1, how="all")


def interval(table: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Mean of each row over its seeds (columns) with Student's t interval: mean, low, high, seeds.

    A row that misses a seed has no mean: those that are left would be others. One seed has no interval.
    """
    from scipy.stats import t  # noqa: PLC0415  slow to import

    values = table.to_numpy(float)  # (rows, seeds)
    seeds = values.shape[1]
    middle = values.mean(1) if seeds else np.full(len(values), np.nan)
    reach = np.full(len(values), np.nan)
    if seeds > 1:
        reach = values.std(1, ddof=1) / seeds**0.5 * t.ppf(0.5 + level / 2, seeds - 1)
    found = {"mean": middle, "low": middle - reach, "high": middle + reach, "seeds": seeds}
    return pd.DataFrame(found, index=table.index)


def means(frame: pd.DataFrame, metric: str, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """One row per level of `by` (default: all factors): configuration, the factors, mean, low, high, seeds, values.

    `values` lists the seeds'. Finished runs only; see `groups` and `per_seed` for what is averaged.
    """
    done = finished(frame, metric)
    names = differing(done) if by is None else [by] if isinstance(by, str) else list(by)
    rows: list[dict[str, Any]] = []
    for name, part in groups(done, names).items():
        table = per_seed(part, metric)
        found = {"values": table.iloc[0].tolist()} | interval(table).iloc[0].to_dict()
        rows.append({"configuration": name} | {factor: part[factor].iloc[0] for factor in names} | found)
    return pd.DataFrame(rows)
