"""Cells of a sweep as they stand, and what they come to."""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from research.launch.sweep import ledger
from research.launch.sweep.backend import Backend
from research.launch.sweep.progress import Progress, progress
from research.launch.sweep.standing import LIVE, WAITING, Standing, State, Wanted, standings

FINE = (Standing.done, Standing.pruned)  # nothing is wrong, and nothing is left to do
ALIVE = (*LIVE, Standing.unknown)  # or may be
ON, INTERRUPTED = 3, 130  # exit codes
ORDER = (*FINE, *ALIVE)  # in totals; what is wrong comes after these


@dataclass(frozen=True)
class Row:
    """One cell."""

    run: Path  # folder, there or not
    differs: dict[str, str]  # axis -> value
    train: State
    probe: State | None  # None: no job was to probe it
    progress: Progress
    watched: tuple[State, ...] = ()  # jobs that probe it on its way

    @property
    def states(self) -> list[State]:
        return [self.train, *([self.probe] if self.probe else []), *self.watched]

    @property
    def standing(self) -> Standing:
        return self.train.standing

    @property
    def id(self) -> str:
        """What names the run in other commands."""
        return self.run.name.rpartition("-")[2][:6]

    @property
    def label(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.differs.items()) or self.run.name


def rows(runs: Mapping[Path, dict[str, str]], backends: Mapping[str, Backend], *, lenient: bool) -> list[Row]:
    """Tell where runs stand, given what tells each from the others.

    HarkError when a scheduler does not answer. `lenient`: what it has is unknown.
    """
    probes = [Wanted(run, kind) for run in runs for kind in ledger.kinds(run) if kind != "train"]
    states = standings([*map(Wanted, runs), *probes], backends, lenient=lenient)
    others: dict[Path, dict[str, State]] = {run: {} for run in runs}
    for state in states[len(runs) :]:
        others[state.wanted.run][state.wanted.kind] = state
    return [
        Row(run, differs, state, others[run].pop("probe", None), progress(run), tuple(others[run].values()))
        for (run, differs), state in zip(runs.items(), states, strict=False)
    ]


def why(state: State) -> str:
    """Give its reason without the run's own folder in front, so that equal ones are equal."""
    return state.reason.rpartition(f"{state.wanted.run.name}: ")[2]


def by_hand(state: State) -> bool:
    """Whether somebody trains it without a job; of a job that runs, nothing is told."""
    return state.standing is Standing.running and bool(state.reason)


def totals(cells: Iterable[Row]) -> dict[str, int]:
    """Cells by standing: what is well first, then what goes on, then what is wrong."""
    counts = Counter(row.standing for row in cells)
    order = [*ORDER, *(standing for standing in Standing if standing not in ORDER)]
    return {standing.value: counts[standing] for standing in order if counts[standing]}


def exit_code(cells: Iterable[Row]) -> int:
    """ON while something runs or waits, else 1 when something is neither done nor pruned, else 0."""
    found = {state.standing for row in cells for state in row.states}
    return ON if found & set(ALIVE) else 0 if found <= set(FINE) else 1


def remaining(cells: Sequence[Row], now: float) -> float | None:
    """Seconds until all trainings are done, if as many go on at a time as now; None: nothing tells the pace.

    What waits is taken to need as long as the others do, less the steps that it has done.
    """
    running = [row for row in cells if row.standing is Standing.running]
    whole = [seconds for row in cells if (seconds := row.progress.whole())]
    if not running or not whole:
        return None
    typical = median(whole)
    known = [row.progress.left(now) for row in running]
    free = [typical * undone(row) if left is None else left for row, left in zip(running, known, strict=True)]
    heapq.heapify(free)  # when each of the places that there are is free
    for row in cells:
        if row.standing in WAITING:
            heapq.heapreplace(free, free[0] + typical * undone(row))
    return max(free)


def undone(row: Row) -> float:
    """Share of a run's steps that are still to be done."""
    return 1 - row.progress.step / row.progress.steps if row.progress.steps else 1.0


def facts(row: Row, now: float) -> dict[str, Any]:
    """One cell of `hark status --json`; see status.py."""
    how = row.progress
    return {
        "run": str(row.run),
        "differs": row.differs,
        "state": row.standing.value,
        "reason": row.train.reason,
        "job": row.train.job,
        "node": row.train.where,
        "starts": row.train.starts,
        "requeues": row.train.requeues,
        "step": how.step,
        "steps": how.steps,
        "audio_s_per_s": how.speed,
        "eta_s": how.left(now) if row.standing is Standing.running else None,
        "loss": how.loss,
        "valid_loss": how.valid_loss,
        "alarms": how.alarms,
        "last_sign": how.seen,
        "probe_state": row.probe.standing.value if row.probe else None,
        "probe_reason": row.probe.reason if row.probe else "",
        "probes": [asdict(score) for score in how.scores],
    }
