"""What a report is about: runs, the plan of their sweep, and which numbers are looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from research.analysis import frame as frames
from research.analysis import sources
from research.analysis.report_plan import Plan, plan
from research.analysis.seeds import differing
from research.errors import HarkError, nearest

PROBE = "phone_frames"
FALLBACK = "valid/loss"  # where nothing was probed


@dataclass(frozen=True)
class Case:
    source: str  # as it was typed
    title: str
    root: Path  # where sweeps are looked for by name
    folder: Path  # where the report goes by itself
    frame: pd.DataFrame
    plan: Plan
    metric: str
    probe: str
    baseline: Mapping[str, str] = field(default_factory=dict)  # factor -> level that others are compared with
    matters: float | None = None  # smallest difference of the metric that would change what one does

    @property
    def short(self) -> str:
        """The metric as a heading: of a probe, what was asked."""
        return self.metric.rpartition("/")[2] if self.metric.startswith("probe/") else self.metric

    @property
    def factors(self) -> list[str]:
        return list(self.frame.attrs["factors"])


def case(
    source: str,
    root: Path,
    *,
    metric: str = "",
    probe: str = PROBE,
    baseline: Mapping[str, str] | None = None,
    matters: float | None = None,
) -> Case:
    """Read runs and their sweep; HarkError: there is no such source, or no such metric or factor."""
    frame = frames.runs(source, root)
    frame.attrs["factors"] = factors(frame)
    metric = metric or chosen(frame, probe)
    if metric not in frame:
        known = [name for name in map(str, frame) if "/" in name]
        raise HarkError(
            f"--metric {metric}: no run has it{nearest(metric, known)} (there are: {', '.join(known)})"
        )
    found = sources.find(source, root)
    folder = Path(source).with_suffix("") if source.endswith(".jsonl") else found.sweep or found.root
    return Case(
        source, found.name, root, folder, frame, plan(found.sweep), metric, probe, baseline or {}, matters
    )


def chosen(frame: pd.DataFrame, probe: str) -> str:
    """The headline of the probe, if any run was asked."""
    headline = f"probe/{probe}/pretrained"
    return headline if headline in frame else FALLBACK


def factors(frame: pd.DataFrame) -> list[str]:
    """What tells the runs that are there apart, and what else has a level of which no run is there."""
    there = frame[frame["state"] != "missing"]
    told = differing(there)
    return told + [
        name for name in differing(frame) if name not in told and not frame[name].isin(there[name]).all()
    ]
