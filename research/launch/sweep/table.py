"""How cells stand, on a terminal of any width."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from research.launch.sweep.rows import FINE, Row, why
from research.launch.sweep.standing import WAITING, Standing

SHORT = 40  # characters of a reason
UNBOUND = 10_000


@dataclass(frozen=True)
class Column:
    name: str
    text: Callable[[Row, float], str]
    right: bool = True


def colour(standing: Standing) -> str:
    if standing in FINE:
        return "green"
    if standing is Standing.running:
        return "cyan"
    return "yellow" if standing in (*WAITING, Standing.unknown) else "red"


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `2 h 05 min`, `3 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def steps(row: Row, _: float) -> str:
    done, total = row.progress.step, row.progress.steps
    return f"{done}/{total}" if total else ""


def speed(row: Row, _: float) -> str:
    return number(row.progress.speed, ".0f") if row.standing is Standing.running else ""


def node(row: Row, _: float) -> str:
    return row.train.where if row.standing is Standing.running else ""


def eta(row: Row, now: float) -> str:
    left = row.progress.left(now) if row.standing is Standing.running else None
    return "" if left is None else duration(left)


def seen(row: Row, now: float) -> str:
    """How long something has been silent that runs, or might."""
    last = row.progress.seen
    lives = row.standing in (Standing.running, Standing.unknown)
    return f"{duration(max(0.0, now - last))} ago" if last and lives else ""


def probes(row: Row, _: float) -> str:
    """Scores, or what keeps them away."""
    scores = "  ".join(f"{s.mean:.3f} [{s.low:.3f}, {s.high:.3f}]" for s in row.progress.scores)
    return scores or (row.probe.standing.value if row.probe else "")


def reason(row: Row, now: float) -> str:
    """Why; of what is unknown, what its job noted last."""
    if row.standing is not Standing.unknown:
        return shorten(why(row.train), SHORT, placeholder=" ...")
    last = row.train.last.since[-1:] if row.train.last else ()
    return "".join(f"{event['event']} {duration(max(0.0, now - event['time']))} ago" for event in last)


def alarms(row: Row, _: float) -> str:
    return " ".join(row.progress.alarms)


COLUMNS = (
    Column("run", lambda row, _: row.id, right=False),
    Column("state", lambda row, _: row.standing.value, right=False),
    Column("step", steps),
    Column("audio-s/s", speed),
    Column("ETA", eta),
    Column("loss", lambda row, _: number(row.progress.loss, ".3f")),
    Column("valid", lambda row, _: number(row.progress.valid_loss, ".3f")),
    Column("probe", probes, right=False),
    Column("alarms", alarms, right=False),
    Column("last sign", seen),
    Column("requeues", lambda row, _: str(row.train.requeues or "")),
    Column("node", node, right=False),
    Column("reason", reason, right=False),
)
# What comes in as far as a terminal is wide enough, first to last: what went wrong is told below the table, too.
OPTIONAL = (
    "run",
    "ETA",
    "alarms",
    "valid",
    "loss",
    "reason",
    "probe",
    "audio-s/s",
    "requeues",
    "node",
    "last sign",
)


def grid(rows: Sequence[Row], now: float, width: int) -> Table:
    """One line per cell, with as many columns as fit; columns without a single entry are left out."""
    shown = {"state", "step"}
    ruler = Console(width=UNBOUND)
    filled = {column.name for column in COLUMNS if any(column.text(row, now) for row in rows)}
    for name in OPTIONAL:
        if name in filled and ruler.measure(columns(rows, now, shown | {name})).maximum <= width:
            shown.add(name)
    return columns(rows, now, shown)


def columns(rows: Sequence[Row], now: float, shown: set[str]) -> Table:
    table = Table(box=SIMPLE, show_edge=False, pad_edge=False)
    axes, kept = short_axes(rows), [column for column in COLUMNS if column.name in shown]
    for name in axes.values() or ["cell"]:
        table.add_column(name, overflow="fold")
    for column in kept:
        table.add_column(column.name, justify="right" if column.right else "left", no_wrap=True)
    for row in rows:
        cells = [Text(row.differs.get(axis, "")) for axis in axes] or [Text(row.run.name)]
        for column in kept:
            style = colour(row.standing) if column.name == "state" else ""
            cells.append(Text(column.text(row, now), style))
        table.add_row(*cells)
    return table


def short_axes(rows: Iterable[Row]) -> dict[str, str]:
    """Give every axis a name to show: its last part, unless another axis ends in the same."""
    axes = list(dict.fromkeys(axis for row in rows for axis in row.differs))
    ends = [axis.rpartition(".")[2] for axis in axes]
    return {axis: end if ends.count(end) == 1 else axis for axis, end in zip(axes, ends, strict=True)}
