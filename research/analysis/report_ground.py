"""What the numbers of a report rest on: seeds, speech, test sets and how often they were asked, what intervals cover."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from research import runs
from research.analysis.labels import plain
from research.analysis.report_case import Case
from research.analysis.report_faults import usable
from research.analysis.report_page import Block, Section, Table, Text
from research.evaluation import records

Line = dict[str, Any]
PARTS = ("train", "dev", "test")
NEEDED = {"manifests", "n_seeds", *(f"n_{part}" for part in PARTS)}
COVERS = (
    "The 95% intervals are over pretraining seeds. They cover what changes with it: the order of the data, the first weights, "
    "and the random encoder. They do not cover what the probe draws, other test utterances, other speech to learn from, or "
    "settings that were not tried. Intervals are of one comparison each; verdicts are corrected for all of their table (Holm), "
    "but not for other tables and metrics, nor for adding seeds after a look."
)
PROBED = (
    "Mini probes of frozen features: the layer, and settings where a probe has some, were chosen on the dev utterances. Bars of "
    "one run's layers cover its probe seeds and test utterances; they say nothing of another pretraining."
)


def ground(case: Case) -> Section:
    """Counts of runs and seeds, the probe's splits, and what intervals cover."""
    seeds = ", ".join(plain(seed) for seed in sorted(case.frame["seed"].dropna().unique()))
    used = int(usable(case.frame, case.metric).sum())
    blocks: list[Block] = [
        Text(f"{used} of {len(case.frame)} runs are averaged. Pretraining seeds: {seeds}."),
        Text(COVERS),
    ]
    asked = [line for path in case.frame["path"] for line in scores(Path(path), case.probe)]
    return Section("What the numbers rest on", [*blocks, Text(PROBED), splits(asked)] if asked else blocks)


def scores(run: Path, probe: str) -> Iterator[Line]:
    """Lines of a probe at all steps of a run, with how often the file says that their test utterances were asked."""
    lines = [
        line
        for line in runs.read_jsonl(run / "probes.jsonl")
        if line["kind"] == "score" and line.keys() >= NEEDED
    ]
    for step in dict.fromkeys(line["step"] for line in lines):
        mine = [line for line in lines if line["step"] == step]
        reads = records.reads(mine)
        yield from (
            line | {"run": run.name, "reads": reads[records.asked(line)]}
            for line in mine
            if line["probe"] == probe
        )


def splits(asked: Sequence[Line]) -> Table:
    """One row per set of manifests that runs were probed with."""
    found: dict[str, list[Line]] = {}
    for line in asked:
        manifests = ", ".join(f"{Path(path).name} {sha[:10]}" for path, sha in line["manifests"].items())
        found.setdefault(manifests, []).append(line)
    rows = []
    for manifests, lines in found.items():
        sizes = [shared(lines, f"n_{part}", "utterances") for part in PARTS]
        heard = shared(lines, "n_test", "heard_in_pretraining")
        times = Counter({(line["run"], line["step"]): line["reads"] for line in lines})
        runs_asked = len({line["run"] for line in lines})
        rows.append([manifests, str(runs_asked), shared(lines, "n_seeds"), *sizes, heard, str(times.total())])
    headings = (
        "manifests", "runs", "probe seeds", *(f"{part} utterances" for part in PARTS), "of test heard in pretraining",
        "test set asked",
    )  # fmt: skip
    told = (
        "Manifests (SHA-256) that the probe was asked with. Test set asked: commands that scored these test utterances, of all "
        "runs and steps, as far as their files know; each asks every layer under every probe seed once."
    )
    return Table(headings, rows, told)


def shared(lines: Sequence[Line], *where: str) -> str:
    """A number that all lines should share; all of them where they do not."""
    values = [reduce(getitem, where, line) for line in lines]
    return ", ".join(dict.fromkeys("unknown" if value is None else str(value) for value in values))
