"""Preflight of all cells of a sweep: what cannot differ between two of them is looked at once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table
from rich.text import Text

from research.data.pieces import progress
from research.errors import HarkError
from research.launch import preflight
from research.launch.checks import cost, environment, resources
from research.launch.checks.job import Check, Finding, Job, Said, Verdict, ok
from research.launch.checks.memo import Memo
from research.launch.preflight_command import COLOURS, SAMPLE
from research.launch.sweep import snapshot
from research.launch.sweep.cell import Cell

GB = 1e9


def time(job: Job) -> Said | None:
    """As of a job alone, but that it is queued again after its time limit needs nobody."""
    left, said = job.get(cost.left_of), job.get(cost.time)
    if left is None or said is None or said.verdict is not Verdict.warn:
        return said
    return ok(f"{left.text}: it goes on by itself in {left.jobs} jobs, one after another")


INSTEAD: dict[Check, Check] = {cost.time: time}
TOGETHER = (resources.disk, environment.imports)  # of which all cells are told the same
ORDER = [check.__name__ for check in preflight.CHECKS]
CHECKS = tuple(INSTEAD.get(check, check) for check in preflight.CHECKS if check not in TOGETHER)


def preflight_cells(cells: Sequence[Cell], sample: int = SAMPLE) -> dict[Path, list[Finding]]:
    """Check the jobs of the cells that are about to be submitted: run folder -> findings, as `preflight` gives them.

    Jobs import from a snapshot, which is tried, and their checkpoints have to fit on the disk together. Cells whose
    config is refused are left out, and those of the same run are one. HarkError: the code cannot be copied.
    """
    memo = Memo()
    jobs = {
        cell.path: Job(cell.composed, sample, memo, cell.path)
        for cell in cells
        if cell.composed is not None and cell.path is not None
    }
    found: dict[Path, list[Finding]] = {}
    with TemporaryDirectory() as folder, progress() as bar:
        code = environment.ask(
            snapshot.environment(snapshot.snapshot(Path(folder)))
        )  # which is busy meanwhile
        for path, job in bar.track(jobs.items(), description="preflight"):
            found[path] = [each for check in CHECKS for each in preflight.asked(job, check)]
        imports = Finding("imports", *environment.told(code))
    for path, finding in disk(jobs):
        found[path].append(finding)
    return {path: sorted([*findings, imports], key=place) for path, findings in found.items()}


def place(finding: Finding) -> int:
    """Among all checks, as `hark preflight` prints them."""
    return ORDER.index(finding.name)


def disk(jobs: Mapping[Path, Job]) -> Iterator[tuple[Path, Finding]]:
    """Whether the checkpoints of all runs have room, on each disk that they lie on."""
    disks: dict[int, list[tuple[Path, resources.Space]]] = defaultdict(list)
    for path, job in jobs.items():
        try:
            space = job.get(resources.space_of)
        except HarkError:  # an earlier check has told it
            continue
        disks[space.place.stat().st_dev].append((path, space))
    for members in disks.values():
        needed = sum(space.needed for _, space in members)
        path, space = members[0]
        said = f"the checkpoints of {len(members)} runs need {needed / GB:.2f} GB"
        finding = Finding("disk", *resources.room(space.place, needed, said, str(path.parent)))
        yield from ((path, finding) for path, _ in members)


def against(findings: Sequence[Finding]) -> list[str]:
    """Names of the checks that refuse."""
    return [each.name for each in findings if each.verdict is Verdict.refuse]


def show(cells: Sequence[Cell], found: Mapping[Path, Sequence[Finding]], console: Console) -> None:
    """Print a line for what each check says of so many cells, and the cells that one refuses."""
    labels = {cell.path: cell.label for cell in cells}
    said: dict[tuple[str, Verdict], Counter[str]] = defaultdict(Counter)
    refused: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, findings in found.items():
        for name, verdict, text in findings:
            said[name, verdict][text] += 1
            if verdict is Verdict.refuse:
                refused[name, text].append(labels[path])
    table = Table(box=None, show_header=False)
    for (name, verdict), texts in sorted(said.items(), key=lambda item: ORDER.index(item[0][0])):
        for text, count in shortened(texts, verdict):
            table.add_row(name, Text(verdict.value, COLOURS[verdict.value]), count, Text(text))
            for label in refused[name, text]:
                table.add_row("", "", "", Text(label, "dim"))
    console.print(table)


def shortened(texts: Counter[str], verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Lines with how many cells they concern; what is good of many is told by the first of its lines."""
    if verdict is Verdict.ok and len(texts) > 1:
        yield f"{next(iter(texts))}; and {len(texts) - 1} lines like this", cells_of(texts.total())
        return
    for text, count in texts.items():
        yield text, cells_of(count)


def cells_of(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"
