"""Factorial designs: what each factor does on average over all the others, and what two do only together."""

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

import pandas as pd

from research.analysis.design import Question, design, known, levels, whole
from research.analysis.effects import answered, asked
from research.analysis.labels import plain


def main_effects(
    frame: pd.DataFrame,
    metric: str,
    level: float = 0.95,
    baseline: Mapping[str, Any] | None = None,
    *,
    matters: float | None = None,
) -> pd.DataFrame:
    """Compare as `effects` does, but on the seeds that have every cell of the design only.

    So all rows rest on the same runs, and no factor's effect holds a part of another's. Where a cell has no run of any
    seed there is no such design: every row says so, and `effects` tells what the pairs that there are can.
    """
    plan = whole(design(frame, metric))
    return answered(plan, asked(plan, None, baseline), level, matters)


def interactions(
    frame: pd.DataFrame,
    metric: str,
    level: float = 0.95,
    baseline: Mapping[str, Any] | None = None,
    *,
    matters: float | None = None,
) -> pd.DataFrame:
    """Ask of every two factors whether one does more beside the other, within each seed.

    Columns as of `effects`. `factor` is `A x B`, and its `level` `a x b` is beside their baselines, `against`:
    `mean` is what a does beside b, `against_mean` what it does beside B's baseline, and the difference is what they do
    together beyond the sum of what each does. `better` says that it is for the better. Pairs are pairs of pairs.
    The family of Holm's correction is this table.
    """
    plan = design(frame, metric)
    known(plan, baseline or ())
    ordered = {factor: levels(plan, factor, (baseline or {}).get(factor)) for factor in plan.factors}
    questions = []
    for one, two in combinations(plan.factors, 2):
        (first, *ones), (second, *twos) = ordered[one], ordered[two]
        for a, b in product(ones, twos):
            questions.append(
                Question(
                    f"{one} x {two}",
                    f"{plain(a)} x {plain(b)}",
                    f"{plain(first)} x {plain(second)}",
                    ours=[(1, {one: a, two: b}), (-1, {one: first, two: b})],
                    theirs=[(1, {one: a, two: second}), (-1, {one: first, two: second})],
                )
            )
    return answered(plan, questions, level, matters)
