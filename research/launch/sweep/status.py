"""`hark status`: where sweeps and runs stand, for people and for scripts.

`--json` prints one object:
  schema     1
  time       s since 1970
  exit_code  as the command's: 0 all done, 1 something is failed, lost, cancelled, stopped or missing,
             3 something still runs or waits, were it the job of a search that may draw more
  totals     state -> cells of all that was named
  eta_s      s until all is done, if it goes on as it does; null when nothing tells
  sweeps     a list of objects: name, path (null for single runs), totals, cells
of which every cell has
  run, differs (axis -> value), state (a word of standing.py), reason, job, node, starts, requeues
  step, steps, audio_s_per_s, eta_s, loss, valid_loss, last_sign (s since 1970)
  alarms (object: alarm that is on -> what it says)
  probe_state, probe_reason (null, "": no job was to probe it), probes (objects: probe, metric, mean, low, high, step)
What is not known is null.
"""

import json
import os
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from research.launch.sweep.ledger import Submission, ended_for_good
from research.launch.sweep.named import Named, named, root_of, sweep_of
from research.launch.sweep.prune import FILE
from research.launch.sweep.report import low, notes, overview, summary, view
from research.launch.sweep.rows import INTERRUPTED, ON, Row, exit_code, facts, remaining, rows, totals
from research.launch.sweep.standing import ask
from research.launch.sweep.submit import backends

SCHEMA = 1
EVERY = 3.0  # s between looks: squeue is everybody's
LEAVES = 600.0  # s within which a job that has noted its end is gone, having drawn what its search tries next
PLAIN = 200  # columns of what is no terminal


@dataclass(frozen=True)
class Shown:
    """What was named, as it stands."""

    named: list[Named]
    cells: list[list[Row]]  # of each
    time: float
    draws: bool = False  # nothing runs or waits, but a job of a search has yet to leave, and may submit more

    @property
    def all(self) -> list[Row]:
        """Every run once, though several sweeps may have it."""
        return list({row.run: row for rows in self.cells for row in rows}.values())

    @property
    def code(self) -> int:
        """Exit code."""
        return ON if self.draws else exit_code(self.all)


def look(targets: Sequence[Named], root: Path) -> Shown:
    """Tell where runs stand; every scheduler is asked once, and again where a search may be about to go on."""
    shown = stand(targets, root)
    last = [] if shown.code == ON else leaving(shown)
    if not last:
        return shown
    answer = ask(last, backends(root), lenient=True)
    if answer.silent or any(live.state != "ended" for live in answer.lives.values()):
        return replace(shown, draws=True)
    return stand(targets, root)  # they may have submitted more before they were gone


def leaving(shown: Shown) -> list[Submission]:
    """Jobs of searches that may not be gone yet; see onward.py."""
    searches = [sweep for sweep in zip(shown.named, shown.cells, strict=True) if is_search(sweep[0])]
    last = [state.last for _, cells in searches for row in cells for state in row.states]
    return [sub for sub in last if sub and not gone(sub, shown.time)]


def is_search(target: Named) -> bool:
    return target.sweep is not None and (target.sweep / FILE).exists()


def gone(job: Submission, now: float) -> bool:
    """Whether a job has long noted its end: then nobody need be asked, who might never tell."""
    return job.last is not None and ended_for_good(job.last) and now - job.last["time"] > LEAVES


def stand(targets: Sequence[Named], root: Path) -> Shown:
    """Tell where runs stand, those too that sweeps had no cells of before."""
    targets = [sweep_of(target.sweep) if target.sweep else target for target in targets]
    runs = {run: differs for target in targets for run, differs in target.runs.items()}
    found = {row.run: row for row in rows(runs, backends(root), lenient=True)}
    cells = [
        [replace(found[run], differs=differs) for run, differs in target.runs.items()] for target in targets
    ]
    return Shown(targets, cells, time.time())


def run(args: Namespace) -> int:
    targets = named(args.names, args.folder)
    root = root_of([run for target in targets for run in target.runs], args.folder)
    if args.follow:
        return watch(targets, root)
    shown = look(targets, root)
    if args.json:
        print(json.dumps(values(shown)))
    else:
        console = terminal()
        console.print(whole(shown, root, console.width, brief=not args.names), soft_wrap=True)
    return shown.code


def follow(name: str, root: Path) -> int:
    """Show a sweep of `root`, the folder of run folders, until nothing of it runs or waits; give the exit code."""
    return watch([sweep_of(root / "sweeps" / name)], root)


def watch(targets: Sequence[Named], root: Path) -> int:
    """Show runs until nothing runs or waits, or Ctrl-C, which leaves the jobs alone."""
    console = terminal()
    try:
        shown = live(targets, root, console) if console.is_terminal else lines(targets, root, console)
    except KeyboardInterrupt:
        console.print("the jobs go on; hark status shows them again, hark cancel ends them")
        return INTERRUPTED
    console.print(whole(shown, root, console.width), soft_wrap=True)
    return shown.code


def live(targets: Sequence[Named], root: Path, console: Console) -> Shown:
    """Draw again and again; leave nothing on the screen."""
    with Live(console=console, auto_refresh=False, transient=True) as drawn:
        while True:
            shown = look(targets, root)
            if shown.code != ON:
                return shown
            share = console.height // len(targets)
            views = zip(shown.named, shown.cells, strict=True)
            drawn.update(
                Group(*(low(t.title, c, shown.time, console.width, share) for t, c in views)), refresh=True
            )
            time.sleep(EVERY)


def lines(targets: Sequence[Named], root: Path, console: Console) -> Shown:
    """Print a line whenever something changed: for logs."""
    said: dict[str, int] = {}
    while True:
        shown = look(targets, root)
        if shown.code != ON:
            return shown
        if totals(shown.all) != said:
            said = totals(shown.all)
            console.print(summary(shown.all, shown.time))
        time.sleep(EVERY)


def terminal() -> Console:
    """A pipe takes lines of any length."""
    console = Console(highlight=False)
    return (
        console if console.is_terminal or "COLUMNS" in os.environ else Console(highlight=False, width=PLAIN)
    )


def whole(shown: Shown, root: Path, width: int, *, brief: bool = False) -> Group:
    """Everything about what was named, or in brief a line of each."""
    views = list(zip(shown.named, shown.cells, strict=True))
    if brief:
        table = overview([(target.title, cells) for target, cells in views], shown.time)
        return Group(table, *notes(shown.all), Text(summary(shown.all, shown.time), "bold"))
    schedulers = backends(root)
    return Group(*(view(target.title, cells, schedulers, shown.time, width) for target, cells in views))


def values(shown: Shown) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "schema": SCHEMA,
        "time": shown.time,
        "exit_code": shown.code,
        "totals": totals(shown.all),
        "eta_s": remaining(shown.all, shown.time),
        "sweeps": [
            {
                "name": target.title,
                "path": str(target.sweep) if target.sweep else None,
                "totals": totals(cells),
                "cells": [facts(row, shown.time) for row in cells],
            }
            for target, cells in zip(shown.named, shown.cells, strict=True)
        ],
    }
