"""What a report says of differences: of the levels of each factor, and of two factors together."""

from collections.abc import Hashable
from functools import partial
from itertools import combinations
from typing import Any

import pandas as pd

from research.analysis import plots
from research.analysis.effects import effects
from research.analysis.factorial import interactions, main_effects
from research.analysis.labels import plain
from research.analysis.report_case import Case
from research.analysis.report_page import Block, Section, Table, Text
from research.analysis.report_pictures import drawn
from research.analysis.report_scores import between, chance, number, signed

TONES = {1: "good", -1: "bad"}
FEW = 8  # comparisons that are told one by one
ALONE = "The runs differ in nothing but their seed: there is nothing to compare."
HEADINGS = (
    "factor", "level", "against", "verdict", "difference [95%]", "p (Holm)", "pairs", "mean", "mean against", "effect size",
    "detectable",
)  # fmt: skip
ASK = {
    main_effects: "Main effects: as above, but on the seeds only that have every cell of the design.",
    interactions: "Interactions: what two levels do together beyond the sum of what each does alone.",
}


def judged(case: Case) -> pd.DataFrame:
    return effects(case.frame, case.metric, baseline=case.baseline, matters=case.matters)


def verdicts(found: pd.DataFrame) -> list[Text]:
    """The verdicts in sentences; of many comparisons their count, and those that show something."""
    if found.empty:
        return [Text(ALONE)]
    told = [Text(sentence(line), TONES.get(line["better"], "")) for line in found.to_dict("records")]
    if len(found) <= FEW:
        return told
    counts = found["verdict"].str.partition(" (")[0].value_counts()
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return [Text(f"Of {len(found)} comparisons: {counted}."), *(text for text in told if text.tone)]


def sentence(line: dict[Hashable, Any]) -> str:
    change = between(signed(line["difference"]), line["low"], line["high"])
    pair = f"{line['factor']}={plain(line['level'])} against {plain(line['against'])}"
    return f"{pair}: {line['verdict']}, {change or 'no difference known'} over {line['pairs']} pairs of runs."


def differences(case: Case, found: pd.DataFrame) -> Section:
    """Every level of every factor against the baseline level, with the verdict."""
    if found.empty:
        return Section("Effects", [Text(ALONE)])
    told = (
        "Each level against the baseline of its factor, paired by seed and by the other factors. Effect size: the difference "
        "in standard deviations of itself between seeds. Detectable: the smallest difference that so many seeds would show "
        "four times in five."
    )
    forest = drawn("effects", f"Differences of {case.metric}.", partial(plots.effects, found))
    return Section("Effects", [forest, compared(found, told), *left_out(found)])


def crossed(case: Case) -> Section:
    """Main effects of a factorial design, and where one factor's effect depends on another's level."""
    title = "Factors together"
    if len(case.factors) < 2:
        return Section(title, [Text("There is one factor at most, so none can depend on another.")])
    blocks: list[Block] = []
    for ask, caption in ASK.items():
        found = ask(case.frame, case.metric, baseline=case.baseline, matters=case.matters)
        blocks += [compared(found, caption), *left_out(found)]
    for a, b in combinations(case.factors, 2):
        caption = f"{case.metric} at every level of {a} and {b}; parallel lines: no interaction."
        blocks.append(drawn(f"{a}-{b}", caption, partial(plots.interaction, case.frame, case.metric, a, b)))
    return Section(title, blocks)


def compared(found: pd.DataFrame, caption: str) -> Table:
    """Differences with their verdicts, a row for a row."""
    rows = [
        [
            str(line["factor"]),
            plain(line["level"]),
            plain(line["against"]),
            line["verdict"],
            between(signed(line["difference"]), line["low"], line["high"]),
            chance(line["p_holm"]),
            str(line["pairs"]),
            number(line["mean"]),
            number(line["against_mean"]),
            signed(line["effect_size"], 2),
            number(line["detectable"]),
        ]
        for line in found.to_dict("records")
    ]
    return Table(HEADINGS, rows, caption)


def left_out(found: pd.DataFrame) -> list[Table]:
    """Which runs each comparison does without, and what is odd about those that it has."""
    rows = [
        [str(line["factor"]), plain(line["level"]), plain(line["against"]), line["left_out"]]
        for line in found.to_dict("records")
        if line["left_out"]
    ]
    headings = ("factor", "level", "against", "left out")
    return [Table(headings, rows, "What these comparisons leave out, and why", folded=True)] if rows else []
