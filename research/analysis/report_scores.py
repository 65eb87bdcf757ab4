"""Numbers as a report shows them, and the score of every configuration and of every run."""

from typing import Any

import pandas as pd

from research.analysis.effects import direction
from research.analysis.labels import plain
from research.analysis.report_case import Case
from research.analysis.report_faults import configurations, usable
from research.analysis.report_page import Section, Table
from research.analysis.seeds import interval


def number(value: Any, digits: int = 3) -> str:
    """A number as tables show it; nothing where there is none."""
    return "" if pd.isna(value) else f"{value:,.{digits}f}"


def signed(value: Any, digits: int = 3) -> str:
    return "" if pd.isna(value) else f"{value:+.{digits}f}"


def chance(p: Any) -> str:
    return "<0.001" if p < 0.001 else number(p)


def between(middle: str, low: Any, high: Any) -> str:
    return middle if pd.isna(low) else f"{middle} [{low:.3f}, {high:.3f}]"


def mean(values: "pd.Series[float]") -> str:
    """The mean over seeds with its interval."""
    known = values.dropna()
    if known.empty:
        return ""
    found = interval(known.to_frame().T).iloc[0]
    return between(number(found["mean"]), found["low"], found["high"])


def scores(case: Case) -> Section:
    """One row per configuration, the best first: the metric with its interval over seeds, and what stands beside it."""
    beside = [
        name
        for name in map(str, case.frame)
        if name.startswith(f"probe/{case.probe}/") and name != case.metric
    ]
    rows: list[tuple[float, list[str]]] = []
    counted = case.frame[usable(case.frame, case.metric)]
    for values, group in configurations(case.frame):
        some = group[group.index.isin(counted.index)]
        cells = [
            *values,
            f"{len(some)} of {len(group)}",
            *(mean(some[name]) for name in (case.metric, *beside)),
        ]
        rows.append((some[case.metric].mean(), cells))
    sign = direction(case.metric, case.frame.attrs["falls"])
    rows.sort(key=lambda row: (pd.isna(row[0]), -sign * row[0]))
    headings = [*case.factors, "seeds", case.short, *(name.rpartition("/")[2] for name in beside)]
    told = (
        "Means over the runs of a configuration that are done, have a finite value, are of the newest schema and alone of "
        "their seed, with 95% intervals (Student's t over these runs). Seeds: how many of these there are, of all runs."
    )
    return Section("Scores", [Table(headings, [cells for _, cells in rows], told)])


def every(case: Case) -> Section:
    """One row per run; of a finished one, a number that is missing is told."""
    rows = [
        [
            line["run"],
            *(plain(line[factor]) for factor in case.factors),
            plain(line["seed"]),
            line["state"],
            f"{line['step']:.0f}/{number(line['steps'], 0) or '?'}",
            number(line[case.metric], 4) or ("NaN" if line["state"] == "done" else ""),
            line["commit"][:10],
            " ".join(filter(None, [line["alarms"] and f"alarms: {line['alarms']};", line["problems"]])),
        ]
        for line in case.frame.to_dict("records")
    ]
    headings = ["run", *case.factors, "seed", "state", "step", case.short, "commit", "alarms, problems"]
    return Section("Runs", [Table(headings, rows)])
