"""The report of a sweep: what was asked, what came of it and how sure that is, what went wrong, what it cost."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from research.analysis import plots
from research.analysis.design import rank
from research.analysis.labels import plain
from research.analysis.report_again import again
from research.analysis.report_case import Case
from research.analysis.report_costs import costs, health
from research.analysis.report_effects import crossed, differences, judged, verdicts
from research.analysis.report_faults import Fault, faults, usable
from research.analysis.report_ground import ground
from research.analysis.report_page import Page, Section, Table, Text, save
from research.analysis.report_pictures import drawn
from research.analysis.report_scores import every, scores

LOSSES = "Losses of different objectives, or of other numbers of codes, cannot be compared with each other."


def report(case: Case, out: Path | None = None) -> Path:
    """Write report.html, report.md and pictures/ into a folder; give the page."""
    return save(page(case), out or case.folder)


def page(case: Case) -> Page:
    """Everything that the report says, in its order."""
    states = ", ".join(f"{count} {state}" for state, count in case.frame["state"].value_counts().items())
    found, ills = judged(case), faults(case.frame, case.metric)
    return Page(
        f"Report: {case.title}",
        f"{len(case.frame)} runs: {states}. Compared by {case.metric}.",
        [
            Section("In short", [*alert(case, ills), *verdicts(found)]),
            question(case),
            wrong(ills),
            differences(case, found),
            scores(case),
            crossed(case),
            curves(case),
            layers(case),
            costs(case),
            health(case),
            every(case),
            again(case),
            ground(case),
        ],
    )


def alert(case: Case, ills: Sequence[Fault]) -> list[Text]:
    """Say what is wrong before any number, and how much is averaged all the same."""
    kinds = ", ".join(dict.fromkeys(fault.what for fault in ills))
    averaged = f"{usable(case.frame, case.metric).sum()} of {len(case.frame)} runs are averaged"
    told = [Text(f"Not all is well: {kinds}. {averaged}; see below.", "alert")] if ills else []
    return [*told, Text(LOSSES, "open")] if case.metric.endswith("loss") else told


def question(case: Case) -> Section:
    """What the recipe says that it is about, and what was varied."""
    asked = Text(" ".join(case.plan.question) or "No recipe tells what was asked.")
    levels = {factor: sorted(case.frame[factor].unique(), key=rank) for factor in case.factors}
    rows = [[factor, ", ".join(map(plain, some))] for factor, some in levels.items()]
    return Section("Question", [asked, Table(["factor", "levels"], rows)] if rows else [asked])


def wrong(ills: Sequence[Fault]) -> Section:
    """What is missing, failed, mixed or not a number."""
    rows = [[fault.what, str(fault.count), fault.which, fault.why] for fault in ills]
    fine = Text("Nothing: all runs are done and whole, of one code, with the same questions asked.", "good")
    return Section("What is wrong", [Table(["what", "count", "which", "why"], rows)] if rows else [fine])


def curves(case: Case) -> Section:
    """Losses over steps; a factor that changes the objective changes what a loss is."""
    blocks = [
        drawn(
            f"{split}-loss",
            f"Loss by step, {words} speech. {LOSSES}",
            partial(plots.curves, case.frame, "loss", split=split),
        )
        for split, words in (("train", "training"), ("valid", "validation"))
    ]
    return Section("Curves", blocks)


def layers(case: Case) -> Section:
    """What each layer knows."""
    caption = f"Headline score of {case.probe} on the test utterances, by layer."
    return Section("Layers", [drawn("layers", caption, partial(plots.layers, case.frame, case.probe))])
