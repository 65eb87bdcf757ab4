"""What is wrong with the runs that a report rests on: told before any number, and never averaged away."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from research.analysis.design import reasons
from research.analysis.labels import plain

FEW = 6  # runs that are named with one reason
KINDS = {  # words of a problem -> what it is called
    "code ": "mixed code",
    " of schema ": "mixed schema",
    "not finite": "NaN or infinite",
    " is nan": "NaN or infinite",
    " is inf": "NaN or infinite",
}


@dataclass(frozen=True)
class Fault:
    what: str
    count: int  # runs, or cells
    which: str
    why: str


def faults(frame: pd.DataFrame, metric: str) -> list[Fault]:
    """Everything that a reader has to know before the numbers."""
    return [
        *unfinished(frame),
        *unusable(frame, metric),
        *missing_seeds(frame, metric),
        *problems(frame),
    ]


def unfinished(frame: pd.DataFrame) -> Iterator[Fault]:
    """Cells that left no run, runs that failed or did not come to their end: once for every reason."""
    for (state, why), some in frame[frame["state"] != "done"].groupby(["state", "problems"], sort=False):
        yield Fault(
            f"{state} run", len(some), named(some["run"]), f"{why or 'no reason was noted'}; not averaged"
        )


def unusable(frame: pd.DataFrame, metric: str) -> Iterator[Fault]:
    """Finished runs that are not averaged all the same: without a finite value, of another schema, of one seed."""
    done = frame[frame["state"] == "done"]
    for reason, some in done.groupby(reasons(frame, metric)[done.index], sort=False):
        if reason:
            yield Fault("not averaged", len(some), named(some["run"]), f"{reason}, though done")


def usable(frame: pd.DataFrame, metric: str) -> "pd.Series[bool]":
    """Whether a run is averaged: it is done, has a finite value, is of the newest schema and alone of its seed."""
    return reasons(frame, metric) == ""


def missing_seeds(frame: pd.DataFrame, metric: str) -> Iterator[Fault]:
    """Configurations that lack seeds which others have."""
    seeds = sorted(frame["seed"].dropna().unique())
    counted = frame[usable(frame, metric)]
    for values, group in configurations(frame):
        there = set(group.loc[group.index.isin(counted.index), "seed"])
        lacking = [plain(seed) for seed in seeds if seed not in there]
        if lacking:
            which = label(dict(zip(frame.attrs["factors"], values, strict=True)))
            told = f"no usable run of seed {', '.join(lacking)}; usable: {len(there)} of {len(seeds)} seeds"
            yield Fault("missing seeds", len(lacking), which, told)


def configurations(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Runs that differ in their seed only, with the values of the factors."""
    factors = frame.attrs["factors"]
    if not factors:
        yield (), frame
        return
    for values, group in frame.groupby(factors, sort=False, dropna=False):
        yield tuple(map(plain, values)), group


def problems(frame: pd.DataFrame) -> Iterator[Fault]:
    """What was found in the files of finished runs."""
    found: dict[str, list[str]] = {}
    for run, told in frame.loc[frame["state"] == "done", ["run", "problems"]].itertuples(index=False):
        for each in filter(None, told.split("; ")):
            found.setdefault(each, []).append(run)
    for told, some in found.items():
        what = next((kind for words, kind in KINDS.items() if words in told), "problem in a run")
        yield Fault(what, len(some), named(some), told)


def versions(frame: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """Commit, and changes of the working tree against it -> runs; what most runs have first."""
    found: dict[tuple[str, str], list[str]] = {}
    there = frame[frame["state"] != "missing"]
    for run, path, commit in zip(there["run"], there["path"], there["commit"], strict=True):
        found.setdefault((str(commit), changes(Path(path))), []).append(run)
    return dict(sorted(found.items(), key=lambda item: -len(item[1])))


def changes(run: Path) -> str:
    """Tell whether the working tree differed from its commit, and which differences are the same."""
    file = run / "code.json"
    if not file.exists():
        return "changes unknown"
    diff = json.loads(file.read_text()).get("diff", "")
    return f"changes {hashlib.sha256(diff.encode()).hexdigest()[:8]}" if diff else "no changes"


def label(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items()) or "all runs"


def named(names: Iterable[str]) -> str:
    """A few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - FEW} more" if len(names) > FEW else ""
    return f"{', '.join(names[:FEW])}{more}"
