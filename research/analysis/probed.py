"""What probes say of a run at the newest step that each was run at, every representation on its dev-chosen layer."""

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass, field

from research.analysis.reading import Line
from research.evaluation.records import PRETRAINED, RANDOM

NEEDS = {"kind": str, "probe": str}
SCORE = ("step", "representation", "mean", "headline", "chosen", "period")  # keys of a line of this kind


@dataclass
class Scores:
    values: dict[str, float] = field(default_factory=dict)  # column -> number
    falls: list[str] = field(default_factory=list)  # probes of which less is better
    asked: dict[str, str] = field(default_factory=dict)  # probe -> hash of the manifests that it was asked on


def scores(found: list[Line], steps: int, told: list[str]) -> Scores:
    """Columns `probe/PROBE/...`: pretrained, random_init, every baseline, and `gain` over random_init.

    A gain is positive when the pretrained encoder is better, also where less is better. `steps`: that a finished run
    has; a probe of an earlier step is told.
    """
    known = Scores()
    for probe, scored in headlines(found).items():
        newest = max(line["step"] for line in scored)
        if newest < steps:
            told.append(f"{probe} was probed at step {newest} of {steps}")
        lines = [line for line in scored if line["step"] == newest]
        columns = sides(lines)
        known.values |= {f"probe/{probe}/{side}": value for side, value in columns.items()}
        told += [f"{probe} of {side} is {v}" for side, v in columns.items() if not math.isfinite(v)]
        if lines[0].get("falls"):
            known.falls.append(probe)
        manifests = sorted(lines[0].get("manifests", {}).values())
        known.asked[probe] = hashlib.sha256("".join(manifests).encode()).hexdigest()[:10]
    return known


def headlines(found: list[Line]) -> dict[str, list[Line]]:
    """Scores at the metric that each probe is about, by probe."""
    by_probe = defaultdict(list)
    for line in found:
        if line["kind"] == "score" and line.get("headline") and line.keys() >= set(SCORE):
            by_probe[line["probe"]].append(line)
    return dict(by_probe)


def sides(lines: list[Line]) -> dict[str, float]:
    """Score of every representation; what has no layers counts at the rate of the encoder's frames."""
    chosen = {line["representation"]: line for line in lines if line["chosen"]}
    found = {name: number(line["mean"]) for name, line in chosen.items()}
    if PRETRAINED not in found:
        return found
    for line in lines:
        if line.get("layer") is None and line["period"] == chosen[PRETRAINED]["period"]:
            found.setdefault(line["representation"], number(line["mean"]))
    if RANDOM in found:
        sign = -1 if lines[0].get("falls") else 1
        found["gain"] = sign * (found[PRETRAINED] - found[RANDOM])
    return found


def number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
