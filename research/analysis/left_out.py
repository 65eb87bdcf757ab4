"""What a comparison does not average, and why."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.analysis.design import Design, Fixed, Question
from research.analysis.labels import plain

SHOWN = 3  # runs that a reason names


def left_out(plan: Design, asked: Question, kept: pd.DataFrame) -> str:
    """Say which runs of a comparison are not averaged and why, and what is odd about those that are."""
    sides = [fixed for _, fixed in (*asked.ours, *asked.theirs)]
    mine = plan.runs[np.logical_or.reduce([matches(plan.runs, fixed) for fixed in sides])]
    others = [factor for factor in plan.factors if factor not in sides[0]]
    inside = mine.assign(cell="").set_index([*others, "cell"]).index.isin(kept.index)
    told = mine["told"].mask((mine["told"] == "") & ~inside, "of a configuration that lacks pairs")
    alone = (told == "") & ~mine["seed"].isin(kept.columns)
    told = told.mask(alone, "of seed " + mine["seed"].map(plain) + ", which lacks a pair")
    said = [
        f"{len(names)} {reason} ({named(names)})" for reason, names in mine["run"].groupby(told) if reason
    ]
    absent = sorted(set(plan.runs["seed"].dropna()) - set(mine["seed"]))
    said += [f"no run of seed {', '.join(map(plain, absent))}"] if absent else []
    return "; ".join(said + odd(mine[told == ""]))


def matches(runs: pd.DataFrame, fixed: Fixed) -> NDArray[np.bool_]:
    """Runs that have these levels."""
    return np.logical_and.reduce([(runs[factor] == level).to_numpy() for factor, level in fixed.items()])


def odd(averaged: pd.DataFrame) -> list[str]:
    """What is told of runs that are averaged all the same: that they are of several commits, or have problems."""
    said = []
    commits = version(averaged).value_counts()
    if len(commits) > 1:
        each = ", ".join(f"{name} ({count})" for name, count in commits.items())
        said.append(f"averaged over {len(commits)} versions of the code: {each}")
    if "problems" in averaged:
        ill = averaged.loc[averaged["problems"].fillna("") != "", "run"]
        said += [f"{len(ill)} averaged with problems ({named(ill)})"] if len(ill) else []
    return said


def version(runs: pd.DataFrame) -> "pd.Series[str]":
    """Name the commit of each run, and whether it was changed."""
    commit = runs["commit"].fillna("").str[:7].replace("", "unknown") if "commit" in runs else ""
    changed = runs["dirty"].map({True: " with changes"}).fillna("") if "dirty" in runs else ""
    return pd.Series("", runs.index) + commit + changed


def named(names: "pd.Series[str]") -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
