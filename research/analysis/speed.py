"""How fast runs learn: the steps, the speech and the device time until a metric is at a value."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from research.analysis.curves import curves
from research.analysis.effects import direction
from research.analysis.seeds import groups, interval

COSTS = ("steps", "audio_h", "device_h")


def to_reach(frame: pd.DataFrame, metric: str, value: float, split: str = "valid") -> pd.DataFrame:
    """One row per run of a frame (see `frame.runs`): what it took until `metric` was first logged at `value` or better.

    Columns: run, seed, state, the factors; steps, audio_h and device_h (NaN: never, as long as it trained); `after`:
    the last step before it at which the metric was logged, so it was reached between the two; `last`: the last step
    logged; `best`: the best value logged. Device-hours are the run's, taken as even over its steps.
    A curve that jumps reaches a value earlier than its trend does: prefer `valid`, or a smoother metric.
    HarkError: no run logged the metric on that split.
    """
    better = direction(metric, frame.attrs.get("falls", ()))
    lines = curves(frame, metric, split).sort_values("step")
    logged = {str(run): part for run, part in lines.groupby("run")}
    factors = list(frame.attrs.get("factors", []))
    rows = [
        {column: run[column] for column in ("run", "name", "seed", "state", *factors)}
        | reached(logged.get(run["run"], lines[:0]), better, value, run["device_h"], run["step"])
        for _, run in frame.iterrows()
    ]
    table = pd.DataFrame(rows)
    table.attrs = dict(frame.attrs) | {"metric": metric, "value": value, "split": split}
    return table


def reached(line: pd.DataFrame, better: int, value: float, device_h: float, steps: int) -> dict[str, Any]:
    """Find where the curve of a run of so many steps first is at a value; NaN where it never is."""
    never = float("nan")
    if line["value"].notna().sum() == 0:
        return dict.fromkeys(("steps", "audio_h", "device_h", "after", "last", "best"), never)
    found: dict[str, Any] = {
        "last": int(line["step"].iloc[-1]),
        "best": better * (better * line["value"]).max(),
    }
    there = line[better * line["value"] >= better * value]
    if there.empty:
        return dict.fromkeys(("steps", "audio_h", "device_h", "after"), never) | found
    first = there.iloc[0]
    before = line.loc[line["step"] < first["step"], "step"]
    took = {"steps": first["step"], "audio_h": first["audio_h"], "device_h": device_h * first["step"] / steps}
    return took | {"after": before.iloc[-1] if len(before) else 0} | found


def summary(table: pd.DataFrame, by: str | Sequence[str] | None = None) -> pd.DataFrame:
    """One row per configuration of what `to_reach` gave: seeds, `reached` (how many did), and means of what it took.

    steps, audio_h and device_h are means over seeds with _low and _high (95%, Student's t); they are NaN unless every
    seed got there: a mean of those that did would praise what seldom does.
    """
    rows = []
    for name, part in groups(table, by).items():
        row: dict[str, Any] = {
            "configuration": name,
            "seeds": len(part),
            "reached": part["steps"].notna().sum(),
        }
        for cost in COSTS:
            found = interval(part[[cost]].T).iloc[0]
            row |= {cost: found["mean"], f"{cost}_low": found["low"], f"{cost}_high": found["high"]}
        rows.append(row)
    return pd.DataFrame(rows)
