"""What `hark status` shows of one sweep, and of many."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from research.launch.sweep.backend import Backend
from research.launch.sweep.logs import ending
from research.launch.sweep.rows import ALIVE, FINE, Row, remaining, totals, why
from research.launch.sweep.standing import Standing, State
from research.launch.sweep.table import colour, duration, grid

LINES = 5  # of a log, for every reason
FEW = 8  # runs that are named with the same reason


def view(title: str, rows: Sequence[Row], backends: Mapping[str, Backend], now: float, width: int) -> Group:
    """The cells, what went wrong, and what it comes to."""
    below: list[RenderableType] = [*wrong(rows, backends), *notes(rows), Text(summary(rows, now), "bold")]
    return Group(Text(title, "bold"), grid(rows, now, width), *below)


def low(title: str, rows: Sequence[Row], now: float, width: int, height: int) -> Group:
    """The same for a terminal of so many lines while it goes on: what is done goes first when there are too few."""
    below: list[RenderableType] = [*notes(rows), Text(summary(rows, now), "bold")]
    rank = {Standing.pending: 1} | dict.fromkeys(FINE, 2)
    count = max(1, height - len(below) - 5)
    kept = sorted(range(len(rows)), key=lambda i: rank.get(rows[i].standing, 0))[:count]
    if hidden := len(rows) - len(kept):
        below.insert(0, Text(f"and {hidden} more, done or waiting", "dim"))
    return Group(Text(title, "bold"), grid([rows[i] for i in sorted(kept)], now, width), *below)


def wrong(rows: Sequence[Row], backends: Mapping[str, Backend]) -> list[RenderableType]:
    """What went wrong, once for every reason, with the end of a log."""
    groups: dict[tuple[str, Standing, str], list[tuple[Row, State]]] = {}
    for row in rows:
        for state in row.states:
            if state.standing not in (*FINE, *ALIVE, Standing.missing):
                key = (state.wanted.kind, state.standing, why(state))
                groups.setdefault(key, []).append((row, state))
    shown: list[RenderableType] = []
    for (kind, standing, reason), members in groups.items():
        (first, state), others = members[0], [row.id for row, _ in members[1:]]
        what = standing.value if kind == "train" else f"{kind} {standing.value}"
        more = f", and {len(others)} more: {' '.join(others[:FEW])}{' ...' * (len(others) > FEW)}"
        head = Text.assemble((what, colour(standing)), f" {first.id} {first.label}{more if others else ''}")
        lines = ending(state, backends, LINES) if standing in (Standing.failed, Standing.lost) else []
        shown += [head, *([Text(f"  {reason}", "red")] if reason else [])]
        shown += [Text(f"  | {line}", "dim") for line in lines]
    return shown


def notes(rows: Sequence[Row]) -> list[RenderableType]:
    """Why something is not known, and alarms, each once for all runs in which it is on."""
    unknown = [state for row in rows for state in row.states if state.standing is Standing.unknown]
    said = dict.fromkeys(state.reason for state in unknown)
    shown: list[RenderableType] = [
        Text(f"unknown: only what run folders say is shown; {reason}", "yellow") for reason in said
    ]
    on: dict[str, list[Row]] = {}
    for row in rows:
        for alarm in row.progress.alarms if row.standing is not Standing.alarmed else ():
            on.setdefault(alarm, []).append(row)
    for alarm, members in on.items():
        others = f", and {len(members) - 1} more" * (len(members) > 1)
        says = members[0].progress.alarms[alarm]
        shown.append(Text(f"alarm {alarm} {members[0].id} {members[0].label}{others}: {says}", "yellow"))
    return shown


def summary(rows: Sequence[Row], now: float) -> str:
    """`12 cells: 7 done, 3 running, 2 pending; all in about 2 h 05 min`."""
    counts = ", ".join(f"{count} {name}" for name, count in totals(rows).items())
    left = remaining(rows, now)
    end = "" if left is None else f"; all in about {duration(left)}"
    return f"{len(rows)} {'cell' if len(rows) == 1 else 'cells'}: {counts or 'none'}{end}"


def overview(sweeps: Sequence[tuple[str, Sequence[Row]]], now: float) -> Table:
    """One line per sweep."""
    table = Table("sweep", "cells", "all in about", box=SIMPLE, show_edge=False, pad_edge=False)
    for name, rows in sweeps:
        left = remaining(rows, now)
        counts = [Text(f"{count} {name}", colour(Standing(name))) for name, count in totals(rows).items()]
        table.add_row(Text(name), Text(", ").join(counts), "" if left is None else duration(left))
    return table
