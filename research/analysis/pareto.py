"""Which configurations are worth their cost: no other scores as high for as little."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.analysis.effects import direction
from research.analysis.seeds import LEVEL, differing, finished, groups, interval

DRAWS = 4000
Numbers = NDArray[np.float64]


def front(frame: pd.DataFrame, score: str, cost: str = "device_h") -> pd.DataFrame:
    """One row per configuration of a frame of runs (see `frame.runs`), the cheapest first.

    Columns: configuration; the factors; score and cost, means over seeds, with _low and _high (95%, Student's t; NaN
    for one seed); seeds; left_out (runs that do not count, or lack score or cost); `front`: no other mean is as good for
    less, or better for as much; `sure`: the share of draws in which this holds when all means are drawn anew from their
    Student's t (NaN as long as any configuration has one seed).
    HarkError: no finished run has both.
    """
    factors, done = differing(frame), finished(frame, score, cost)
    rows = []
    for name, part in groups(frame, factors).items():
        used = part[part["run"].isin(done["run"])]
        row: dict[str, Any] = {"configuration": name} | {factor: part[factor].iloc[0] for factor in factors}
        for column, metric in (("score", score), ("cost", cost)):
            found = interval(used[[metric]].T).iloc[0]
            row |= {column: found["mean"], f"{column}_low": found["low"], f"{column}_high": found["high"]}
        rows.append(row | {"seeds": len(used), "left_out": len(part) - len(used)})
    table = pd.DataFrame(rows).sort_values("cost", ignore_index=True)
    beaten = dominated(
        direction(score, frame.attrs.get("falls", ())) * numbers(table["score"]), numbers(table["cost"])
    )
    table["front"] = table["cost"].notna() & ~beaten
    table["sure"] = sure(table, direction(score, frame.attrs.get("falls", ())))
    table.attrs = {"score": score, "cost": cost, "factors": factors}
    return table


def dominated(score: Numbers, cost: Numbers) -> NDArray[np.bool_]:
    """Whether another is as good and as cheap, and better or cheaper, along the last axis; higher scores are better."""
    good, cheap = (
        score[..., None, :] - score[..., :, None],
        cost[..., :, None] - cost[..., None, :],
    )  # (..., n, n)
    return np.asarray(((good >= 0) & (cheap >= 0) & ((good > 0) | (cheap > 0))).any(-1))


def sure(table: pd.DataFrame, better: int) -> Numbers:
    """How often each is on the front when every mean is drawn from its Student's t; seeded, so always the same."""
    known = table[table["cost"].notna()]
    shares = np.full(len(table), np.nan)
    if (known["seeds"] > 1).all():
        score, cost = (drawn(known, column) for column in ("score", "cost"))  # (DRAWS, n)
        shares[known.index] = (~dominated(better * score, cost)).mean(0)
    return shares


def drawn(table: pd.DataFrame, column: str) -> Numbers:
    """Means as they could be, DRAWS times each; the half-width of an interval is t's quantile x the standard error."""
    from scipy.stats import t  # noqa: PLC0415  slow to import

    free = numbers(table["seeds"]) - 1
    error = (numbers(table[f"{column}_high"]) - numbers(table[column])) / t.ppf(0.5 + LEVEL / 2, free)
    random = np.random.default_rng(0 if column == "score" else 1)
    return numbers(table[column]) + error * random.standard_t(free, (DRAWS, len(table)))


def numbers(column: "pd.Series[Any]") -> Numbers:
    return column.to_numpy(np.float64)
