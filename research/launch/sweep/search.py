"""Search: trials that Optuna proposes, one after another, from what came of those before (ask and tell).

All that is known is in the sweep's folder: `search.journal` holds the trials, each with its cells, before any of them
is submitted. So a trial whose cells never were is found again, and nothing depends on when a command was killed.
Whoever calls this holds the lock of the sweeps.
"""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from research.compose import compose_config
from research.errors import HarkError
from research.launch.sweep.cell import Cell
from research.launch.sweep.grid import Composer
from research.launch.sweep.prune import tell_jobs
from research.launch.sweep.recipe import Prune, Recipe, Sampler, Search
from research.launch.sweep.score import Fate, check_metric, fate
from research.launch.sweep.space import points, space
from research.runs import signature

REFUSED = 10  # illegal trials in a row at which a search ends
POINTS, RUNS = "points", "runs"  # attributes of a trial: [{axis: value}] of its runs, and their folders


def folder_of(recipe: Recipe) -> Path:
    """Give the folder of a search; HarkError when what all of its runs have in common is wrong."""
    return Path(compose_config(recipe.shared).config.run.folder).absolute() / "sweeps" / recipe.name


@dataclass(frozen=True)
class Tried:
    """A trial, for people."""

    number: int
    state: str  # running, complete, pruned, fail
    value: float | None
    drawn: dict[str, Any]  # axis -> value


class Trials:
    """The trials of one search."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        """Open a search, or begin it. HarkError when it was begun with other axes, or for another metric."""
        assert recipe.search is not None
        self.folder, self.recipe, self.search = folder, recipe, recipe.search
        self.composer, self.space = Composer(recipe), space(recipe)
        check_search(self.search)
        self.study = open_study(folder, self.search)
        self.check_same()

    def check_same(self) -> None:
        search, recipe = self.search, self.recipe
        shared = signature(self.composer.base(()).compose().config)
        now = {"axes": dict(recipe.axes), "metric": search.metric, "direction": search.direction.value}
        now |= {"signature": shared}
        before = self.study.user_attrs.get("about")
        if before is None:
            self.study.set_user_attr("about", now)
        elif before != now:
            key = next(key for key in now if before[key] != now[key])
            raise HarkError(
                f"{self.folder}: this search began with {key} {before[key]}, not {now[key]}; give it another --name"
            )

    def tell(self) -> None:
        """Let Optuna know of every trial that came to its end."""
        for trial in self.trials(TrialState.RUNNING):
            if POINTS not in trial.user_attrs:  # killed while it was drawn: nothing of it was submitted
                self.study.tell(trial.number, state=TrialState.FAIL)
                continue
            self.judge(trial.number, self.cells_of(trial))

    def judge(self, number: int, cells: list[Cell]) -> None:
        """Tell what became of one trial: the mean over its seeds, once all are there. One that failed ends it."""
        if any(cell.refused for cell in cells):
            self.study.tell(number, state=TrialState.FAIL)
            return
        fates = [fate(cell.folder, self.search.metric, cell.config.cluster.tries) for cell in cells]
        what = {each for each, _ in fates}
        if Fate.failed in what:
            self.study.tell(number, state=TrialState.FAIL)
        elif Fate.open not in what and Fate.pruned in what:
            self.study.tell(number, state=TrialState.PRUNED)
        elif Fate.open not in what:
            self.study.tell(number, statistics.fmean(value for _, value in fates))

    def ask(self) -> list[Cell]:
        """Draw trials until `parallel` are open, and give the cells of all that are: submitted already or not.

        What is done already, as a run of another sweep, is told at once. HarkError: all that is drawn is illegal.
        """
        self.tell()
        refused = 0
        while len(self.open()) < self.search.parallel and len(self.drawn()) < self.search.trials:
            cells = self.draw()
            reasons = [cell.refused for cell in cells if cell.refused]
            refused = refused + 1 if reasons else 0
            if refused == REFUSED:
                raise HarkError(
                    f"search: {REFUSED} trials in a row are illegal: {cells[0].label}: {reasons[0]}"
                )
        names = {name for trial in self.drawn() for name in trial.user_attrs[RUNS]}
        tell_jobs(self.folder, self.search, sorted(names))
        found = [cell for trial in self.open() for cell in self.cells_of(trial)]
        return list({cell.folder: cell for cell in found}.values())

    def draw(self) -> list[Cell]:
        """Draw one trial; what is drawn depends on the seed, on its number, and on what was told before."""
        number = len(self.drawn())
        self.study.sampler = sampler(self.search, number)
        trial = self.study.ask(self.space)
        drawn = points(trial.params, self.recipe)
        cells = [self.composer.cell(point) for point in drawn]
        trial.set_user_attr(RUNS, [cell.folder.name for cell in cells if cell.path])
        trial.set_user_attr(POINTS, drawn)
        self.judge(trial.number, cells)
        return cells

    def fail(self, cell: Cell) -> None:
        """Give up the trials of a cell that cannot be run."""
        for trial in self.open():
            if cell.differs in trial.user_attrs[POINTS]:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def cells_of(self, trial: FrozenTrial) -> list[Cell]:
        return [self.composer.cell(point) for point in trial.user_attrs[POINTS]]

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states or None)

    def drawn(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials() if POINTS in trial.user_attrs]

    def open(self) -> list[FrozenTrial]:
        return [trial for trial in self.drawn() if trial.state is TrialState.RUNNING]

    @property
    def over(self) -> bool:
        return len(self.drawn()) >= self.search.trials and not self.open()

    def tried(self) -> Iterator[Tried]:
        """All trials, the oldest first."""
        for trial in self.drawn():
            yield Tried(trial.number, trial.state.name.lower(), trial.value, trial.params)

    def best(self) -> Tried | None:
        done = [each for each in self.tried() if each.state == "complete" and each.value is not None]
        sign = 1 if self.search.direction.value == "minimize" else -1
        return min(done, key=lambda each: sign * (each.value or 0.0), default=None)


def check_search(search: Search) -> None:
    check_metric(search.metric)
    if search.prune is Prune.median and not search.metric.startswith("valid/"):
        raise HarkError(
            f"search: prune: a run has no {search.metric} on its way; write prune: none, or metric: valid/loss"
        )


def open_study(folder: Path, search: Search) -> optuna.Study:
    """Open the journal; what a killed process left unfinished at its end is cut off."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "search.journal"
    if file.exists() and not (data := file.read_bytes()).endswith(b"\n"):
        with open(file, "r+b") as journal:
            journal.truncate(data.rfind(b"\n") + 1)
    backend = JournalFileBackend(str(file), JournalFileOpenLock(str(file)))
    return optuna.create_study(
        storage=JournalStorage(backend),
        study_name=folder.name,
        direction=search.direction.value,
        load_if_exists=True,
    )


def sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial: it begins anew with each, so that it does not matter which command draws it."""
    seed = search.seed * 1_000_003 + number
    if search.sampler is Sampler.random:
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed)
