"""`hark status`: where sweeps and runs stand, for people and for scripts.

`--json` prints one object:
  schema     1
  time       s since 1970
  exit_code  as the command's: 0 all done, 1 something is failed, lost, cancelled, stopped or missing,
             3 something still runs or waits
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

from research.launch.sweep.named import Named, named, root_of, sweep_of
from research.launch.sweep.report import low, notes, overview, summary, view
from research.launch.sweep.rows import INTERRUPTED, ON, Row, exit_code, facts, remaining, rows, totals
from research.launch.sweep.submit import backends

SCHEMA = 1
EVERY = 3.0  # s between looks: squeue is everybody's
PLAIN = 200  # columns of what is no terminal


@dataclass(frozen=True)
class Shown:
    """What was named, as it stands."""

    named: list[Named]
    cells: list[list[Row]]  # of each
    time: float

    @property
    def all(self) -> list[Row]:
        """Every run once, though several sweeps may have it."""
        return list({row.run: row for rows in self.cells for row in rows}.values())


def look(targets: Sequence[Named], root: Path) -> Shown:
    """Tell where runs stand; every scheduler is asked once."""
    runs = {run: differs for target in targets for run, differs in target.runs.items()}
    found = {row.run: row for row in rows(runs, backends(root), lenient=True)}
    cells = [
        [replace(found[run], differs=differs) for run, differs in target.runs.items()] for target in targets
    ]
    return Shown(list(targets), cells, time.time())


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
    return exit_code(shown.all)


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
    return exit_code(shown.all)


def live(targets: Sequence[Named], root: Path, console: Console) -> Shown:
    """Draw again and again; leave nothing on the screen."""
    with Live(console=console, auto_refresh=False, transient=True) as drawn:
        while True:
            shown = look(targets, root)
            if exit_code(shown.all) != ON:
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
        if exit_code(shown.all) != ON:
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
        "exit_code": exit_code(shown.all),
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
