"""The verdict on a comparison in words, and the table of a family of comparisons.

  better, worse        the p-value, corrected by Holm for all comparisons of the table, is below 1 - level
  not enough seeds     it is not, and one of these holds:
  (N needed)           - fewer than 3 seeds have a pair; N is 3, which a test takes
                       - it was said what `matters`, and so large a true difference would be missed more than once in
                         five; N seeds would show it 4 times in 5
                       - nothing was said to matter, and the difference that is seen, were it the true one, would be
                         shown 4 times in 5 by N seeds, where N is at most 4 times what there are (4 times as many
                         halve an interval)
  no difference shown  it is not, and none of these holds: a difference that matters would probably have been shown; or
                       what is seen is so small beside the spread between seeds that a few more would not settle it

N rests on the spread between the seeds there are, and is no promise: 5 seeds know it to a factor of about two. To add
the seeds that are needed and to test all of them again is a second look at the data: where a factor does nothing, 7 to 8%
are then called better or worse instead of 5% (simulated from 3, 5 and 8 seeds; 8 to 9% if one goes on till no seed is
needed). New seeds tested alone keep to 5%.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.analysis.paired import Paired
from research.analysis.power import SEEDS, detectable, needed
from research.errors import HarkError

BETTER, WORSE, ALIKE, FEW = "better", "worse", "no difference shown", "not enough seeds"
TIMES = 4  # as many seeds as there are: more are no advice


def words(
    gain: float, p: float, seeds: int, needed: float, level: float = 0.95, *, margin: bool = False
) -> str:
    """Give the verdict on a difference: `gain` is above 0 where it is for the better, `p` corrected.

    `margin`: whether `needed` is of a difference that was said to matter, not of the one that is seen.
    """
    if seeds < SEEDS:
        return f"{FEW} ({SEEDS} needed)"
    if p < 1 - level:
        return BETTER if gain > 0 else WORSE
    most = np.inf if margin else TIMES * seeds
    return f"{FEW} ({needed:,.0f} needed)" if seeds < needed <= most else ALIKE


def judge(
    found: Sequence[Paired], sign: int, level: float = 0.95, matters: float | None = None
) -> pd.DataFrame:
    """Judge all comparisons of a table together: one row each.

    Columns: seeds, difference, low, high (of each on its own, not corrected), p, p_holm, effect_size (Hedges' g_z),
    detectable (what this many seeds show 4 times in 5), needed, better (1, 0, -1), verdict. `detectable` and `needed`
    are at the strictest step of Holm's correction. `sign`: 1 where more is better, -1 where less is.
    HarkError: `matters` is no size.
    """
    if matters is not None and not matters > 0:
        raise HarkError(
            f"matters={matters}: is no difference; give one above 0, in the metric's unit, or leave it out"
        )
    corrected = holm([one.p for one in found])
    alpha = (1 - level) / max(1, int(np.isfinite(corrected).sum()))
    rows = []
    for one, p in zip(found, corrected, strict=True):
        seeds = needed(matters or one.difference, one.spread, alpha) if one.seeds >= SEEDS else float(SEEDS)
        said = words(sign * one.difference, p, one.seeds, seeds, level, margin=matters is not None)
        rows.append(
            {
                "seeds": one.seeds,
                "difference": one.difference,
                "low": one.low,
                "high": one.high,
                "p": one.p,
                "p_holm": p,
                "effect_size": one.size,
                "detectable": detectable(one.spread, one.seeds, alpha),
                "needed": seeds,
                "better": {BETTER: 1, WORSE: -1}.get(said, 0),
                "verdict": said,
            }
        )
    return pd.DataFrame(rows)


def holm(values: Sequence[float]) -> NDArray[np.float64]:
    """Correct p-values by Holm's method; those that are NaN, which were no test, stay it and count for nothing."""
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415  slow to import

    corrected = np.array(values, float)
    tested = np.isfinite(corrected)
    if tested.any():
        corrected[tested] = multipletests(corrected[tested], method="holm")[1]
    return corrected
