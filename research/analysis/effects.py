"""What each level of a factor does, against the level that it is compared with."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from research.analysis.design import Design, Question, balanced, cells, design, known, levels
from research.analysis.left_out import left_out
from research.analysis.paired import paired
from research.analysis.verdict import judge

COLUMNS = (
    "factor", "level", "against", "metric", "pairs", "seeds", "mean", "against_mean", "difference", "low", "high", "p",
    "p_holm", "effect_size", "detectable", "needed", "better", "verdict", "left_out",
)  # fmt: skip
LESS = {  # words of metrics of which less is better
    "loss", "cer", "wer", "per", "eer", "der", "error", "errors", "abx", "ctc", "l1", "l2", "mse", "penalty", "wall",
    "device", "energy", "peak",
}  # fmt: skip


def effects(
    frame: pd.DataFrame,
    metric: str,
    factors: Sequence[str] | None = None,
    level: float = 0.95,
    baseline: Mapping[str, Any] | None = None,
    *,
    matters: float | None = None,
) -> pd.DataFrame:
    """Compare each level of each factor with its baseline, in runs of the same seed that differ in nothing else.

    A frame of `frame.runs`; of these `factors` (default: all). `baseline` names the level to compare with, which is
    else `none`, `False` or what is not set, or else the least. The difference is the mean over seeds of what a seed's
    pairs show on average; seeds and cells that would leave this unbalanced are dropped, and told in `left_out`.

    One row per level: factor, level, against, metric, pairs (of runs), seeds (of the test: see paired.py), mean and
    against_mean (over the same pairs), difference, low, high, p, p_holm, effect_size, detectable, needed, better,
    verdict (see verdict.py; the family of Holm's correction is this table), left_out. `matters`: the smallest
    difference that would change what one does. The table keeps the frame's `attrs`.
    HarkError: a metric, factor or level that is not there.
    """
    plan = design(frame, metric)
    return answered(plan, asked(plan, factors, baseline), level, matters)


def direction(metric: str, falls: Collection[str] = ()) -> int:
    """Give 1 where more of a metric is better, -1 where less is; `falls`: a frame's, `probe/PROBE` of which less is.

    By its words: losses, errors (cer, mse, abx, ...) and costs are better when lower. A probe's gain is always better
    when higher.
    """
    head, _, name = metric.rpartition("/")
    if head.startswith("probe/"):
        if name == "gain":
            return 1
        name = head.removeprefix("probe/")
    return -1 if head in falls or LESS & set(name.split("_")) else 1


def asked(plan: Design, factors: Sequence[str] | None, baseline: Mapping[str, Any] | None) -> list[Question]:
    """Ask for every level of these factors what it does against the first."""
    known(plan, (*(factors or ()), *(baseline or ())))
    found = []
    for factor in factors or plan.factors:
        first, *rest = levels(plan, factor, (baseline or {}).get(factor))
        found += [
            Question(factor, each, first, [(1, {factor: each})], [(1, {factor: first})]) for each in rest
        ]
    return found


def answered(
    plan: Design, questions: Sequence[Question], level: float, matters: float | None
) -> pd.DataFrame:
    """Answer a family of questions: see `effects`."""
    rows, found = [], []
    for each in questions:
        ours, theirs = cells(plan.table, each.ours), cells(plan.table, each.theirs)
        kept = balanced(ours - theirs)
        # (cells, seeds) -> (seeds,); where neither level has a run there are seeds, but no cells
        found.append(paired(kept.mean().dropna().to_numpy(), level))
        rows.append(
            {
                "factor": each.factor,
                "level": each.level,
                "against": each.against,
                "metric": plan.metric,
                "pairs": kept.size,
                "mean": ours.reindex_like(kept).mean().mean(),
                "against_mean": theirs.reindex_like(kept).mean().mean(),
                "left_out": left_out(plan, each, kept),
            }
        )
    sign = direction(plan.metric, plan.attrs.get("falls", ()))
    table = pd.DataFrame(rows).join(judge(found, sign, level, matters)).reindex(columns=COLUMNS)
    table.attrs |= plan.attrs
    return table
