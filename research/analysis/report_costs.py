"""What runs cost, and which alarms went on in them."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from research.analysis import plots
from research.analysis.report_case import Case
from research.analysis.report_faults import configurations, named
from research.analysis.report_page import Section, Table, Text
from research.analysis.report_pictures import drawn
from research.analysis.report_scores import number
from research.training.health import record

COSTS = {
    "wall_s": "wall hours",
    "device_h": "device-hours",
    "audio_h": "audio-hours",
    "energy_kwh": "energy (kWh)",
}
SECONDS = 3600


def costs(case: Case) -> Section:
    """Sums of every configuration and of all, failed and unfinished runs with them: they cost, too."""
    there = case.frame[case.frame["state"] != "missing"]
    rows = [[*values, *sums(group)] for values, group in configurations(there)]
    if case.factors:
        rows.append(["all", *[""] * (len(case.factors) - 1), *sums(there)])
    told = (
        "Sums over training runs, those that failed or did not finish included, probes not. Device-hours count every device "
        "of a run, audio-hours what was heard, over all restarts."
    )
    caption = f"{case.metric} against device-hours; what nothing beats at its cost is joined by the line."
    frontier = drawn("cost", caption, partial(plots.pareto, case.frame, case.metric, "device_h"))
    table = Table([*case.factors, "runs", *COSTS.values()], rows, told, total=bool(case.factors))
    return Section("Cost", [table, frontier])


def sums(group: pd.DataFrame) -> list[str]:
    """Number of runs, then each cost; of how many it is not known is told."""
    return [str(len(group)), *(total(group[name]) for name in COSTS)]


def total(values: "pd.Series[float]") -> str:
    known = values.dropna() / (SECONDS if values.name == "wall_s" else 1)
    if known.empty:
        return "unknown"
    lacking = len(values) - len(known)
    return f"{number(known.sum(), 2)}{f' + unknown of {lacking}' * bool(lacking)}"


def health(case: Case) -> Section:
    """Alarms that went on, with what they said first."""
    first: dict[str, dict[str, str]] = {}
    for run, path, alarms in case.frame[["run", "path", "alarms"]].itertuples(index=False):
        said = {
            one["alarm"]: says(one) for one in reversed(record.events(Path(path))) if one["event"] == "on"
        }
        for alarm in alarms.split():
            first.setdefault(alarm, {})[run] = said.get(alarm, "")
    if not first:
        return Section("Health", [Text("No alarm went on in any run.", "good")])
    rows = [
        [alarm, str(len(members)), named(list(members)), next(iter(members.values()))]
        for alarm, members in first.items()
    ]
    return Section("Health", [Table(["alarm", "runs", "which", "said first"], rows)])


def says(event: dict[str, Any]) -> str:
    return f"step {event['step']}: {event['says']}"
