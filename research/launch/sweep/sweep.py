"""What `hark sweep` does: compose the cells, look up how they stand, check and submit what is due, return."""

import shlex
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from research.errors import HarkError
from research.launch.sweep import checks
from research.launch.sweep.backend import Backend
from research.launch.sweep.cell import Cell
from research.launch.sweep.folder import Folder, locked
from research.launch.sweep.grid import cells, name_of
from research.launch.sweep.recipe import Recipe, read_recipe
from research.launch.sweep.rows import by_hand
from research.launch.sweep.search import Trials, folder_of
from research.launch.sweep.snapshot import snapshot
from research.launch.sweep.standing import LIVE, Standing, State, Wanted, standings, to_submit
from research.launch.sweep.submit import backends, probing, submit, training, withdraw


@dataclass(frozen=True)
class Due:
    """What a cell lacks: its training, or only its probes."""

    cell: Cell
    train: State
    probe: State | None  # None: none are wanted

    @property
    def trains(self) -> bool:
        return to_submit(self.train, self.cell.config.cluster.tries)

    @property
    def probes(self) -> bool:
        if self.probe is None or self.trains:
            return self.probe is not None
        # no job can wait for somebody who trains by hand
        waits = self.train.standing in LIVE and not by_hand(self.train)
        able = self.train.standing is Standing.done or waits
        return able and to_submit(self.probe, self.cell.config.cluster.tries)


def sweep(args: Namespace) -> int:
    """Exit code 0, or 1 when cells were refused; HarkError when all of it is."""
    console = Console(highlight=False, soft_wrap=True)
    recipe = read_recipe(args.words, args.name or "")
    found = cells(recipe) if recipe.search is None else []
    folder = Folder(root_of(found) / "sweeps" / name_of(recipe, found) if found else folder_of(recipe))
    root, name = folder.path.parent.parent, folder.path.name
    with locked(root):
        if recipe.search is not None:
            trials = Trials(folder.path, recipe)
            found = trials.ask()
            console.print(told(trials))
        refused = settle(args, recipe, found, folder, console)
        if recipe.search is not None and not args.dry_run:
            for cell in refused:
                trials.fail(cell)
    if args.follow and not args.dry_run:
        from research.launch.sweep.status import follow  # noqa: PLC0415

        return follow(name, root) or (1 if refused else 0)
    return 1 if refused else 0


def settle(
    args: Namespace, recipe: Recipe, found: Sequence[Cell], folder: Folder, console: Console
) -> list[Cell]:
    """Submit what is due of the cells; give those that are refused."""
    schedulers = backends(folder.path.parent.parent)
    words = recipe.probe if args.probe is None else shlex.split(args.probe)
    due = look_up(found, schedulers, probes=bool(recipe.probe) or args.probe is not None)
    refused = [cell for cell in found if cell.refused]
    console.print(overview(folder.path.name, due, refused))
    against = preflight([each for each in due if each.trains], console, force=args.force)
    due = [each for each in due if each.cell.path not in against]
    if not args.dry_run:
        folder.add(retyped(args, folder.path.name), found)
        jobs = hand_over(due, folder.path, words, schedulers)
        said = f"{jobs} jobs are queued; `hark status {folder.path.name}` says how they stand"
        console.print(said if jobs else "nothing to do")
    return refused + [cell for cell in found if cell.path in against]


def retyped(args: Namespace, name: str) -> list[str]:
    """The words of a command that goes on with this one."""
    probe = [] if args.probe is None else ["--probe", args.probe]
    return ["--name", name, *probe, *(["--force"] if args.force else []), *args.words]


def told(trials: Trials) -> str:
    """How far a search is."""
    count = Counter(each.state for each in trials.tried())
    states = ", ".join(f"{number} {state}" for state, number in count.items())
    best = trials.best()
    known = f"; best {best.value:.4g} with {best.drawn}" if best else ""
    return f"search: {count.total()} of {trials.search.trials} trials: {states}{known}"


def root_of(found: Sequence[Cell]) -> Path:
    """The folder that all run folders are made in."""
    roots = {cell.config.run.folder for cell in found if cell.composed}
    if len(roots) > 1:
        raise HarkError(f"run.folder={','.join(sorted(roots))}: a sweep has one")
    return Path(roots.pop()).absolute()


def look_up(found: Sequence[Cell], schedulers: Mapping[str, Backend], *, probes: bool) -> list[Due]:
    """How the legal cells stand. HarkError when a scheduler does not answer."""
    legal = [cell for cell in found if cell.composed]
    trains = standings([Wanted(cell.folder) for cell in legal], schedulers)
    asked: Sequence[State | None] = [None] * len(legal)
    if probes:
        asked = standings([Wanted(cell.folder, "probe") for cell in legal], schedulers)
    return [Due(*each) for each in zip(legal, trains, asked, strict=True)]


def overview(name: str, due: Sequence[Due], refused: Sequence[Cell]) -> Table:
    """A line per cell: how it stands, and what is done about it."""
    counts = Counter(each.train.standing.value for each in due)
    counts["refused"] = len(refused)
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    table = Table(box=None, title=f"{name}: {len(due) + len(refused)} cells: {told}", title_justify="left")
    for column in ("cell", "run", "stands", "to do", "why"):
        table.add_column(column)
    for each in due:
        todo = [word for word, is_due in (("train", each.trains), ("probe", each.probes)) if is_due]
        state = each.train
        table.add_row(
            each.cell.label, each.cell.folder.name, state.standing.value, " + ".join(todo), reason_of(each)
        )
    for cell in refused:
        table.add_row(cell.label, "", "refused", "", cell.refused)
    return table


def reason_of(each: Due) -> str:
    state = each.train
    if state.standing is Standing.failed and not each.trains:
        return f"{state.errors} times the same: {state.reason}; `hark retry` tries again"
    return state.reason


def preflight(due: Sequence[Due], console: Console, *, force: bool) -> set[Path]:
    """Check what is to be trained; give the runs that are refused and not forced."""
    cells = [each.cell for each in due]
    if not cells:
        return set()
    findings = checks.preflight_cells(cells)
    checks.show(cells, findings, console)
    against = {path for path, found in findings.items() if checks.against(found)}
    if against:
        said = f"{len(against)} cells are refused; see above"
        console.print(f"{said}; forced" if force else f"{said}, or type --force")
    return set() if force else against


def hand_over(
    due: Sequence[Due], folder: Path, words: Sequence[str], schedulers: Mapping[str, Backend]
) -> int:
    """Submit trainings, then the probes that wait for them; give the number of jobs."""
    trained, probed = [each for each in due if each.trains], [each for each in due if each.probes]
    if not trained and not probed:
        return 0
    code = snapshot(folder.parent / "code")
    orders = {
        each.cell.folder: training(each.cell, folder, code) for each in due if each.trains or each.probes
    }
    for each in trained:
        if each.probe:
            withdraw(each.probe, schedulers)
    ids = submit([orders[each.cell.folder] for each in trained], schedulers)
    jobs = {each.cell.folder: job for each, job in zip(trained, ids, strict=True)}
    jobs |= {each.cell.folder: each.train.job for each in due if each.train.standing in LIVE}
    submit(
        [probing(orders[run], words, jobs.get(run, "")) for run in (each.cell.folder for each in probed)],
        schedulers,
    )
    return len(trained) + len(probed)
