"""`hark retry`: submit again what failed, was lost or was stopped by an alarm, however often it did so before."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from research import registry
from research.launch.sweep.backend import Backend
from research.launch.sweep.folder import locked
from research.launch.sweep.ledger import note
from research.launch.sweep.named import root_of, runs_of
from research.launch.sweep.order import Order, read_order
from research.launch.sweep.rows import ALIVE, Row, by_hand, rows, why
from research.launch.sweep.snapshot import snapshot
from research.launch.sweep.standing import WAITING, Standing, State
from research.launch.sweep.submit import backends, submit, withdraw

KINDS = (Standing.failed, Standing.lost, Standing.alarmed, Standing.cancelled)
DEFAULT = (Standing.failed, Standing.lost, Standing.alarmed)


def run(args: Namespace) -> int:
    """Submit the same configs with the code of today. HarkError when a scheduler does not answer."""
    wanted = [kind for kind in KINDS if getattr(args, kind.value)] or DEFAULT
    runs = runs_of(args.names, args.folder)
    root = root_of(runs, args.folder)
    schedulers = backends(root)
    with locked(root):
        due = [
            (row, states) for row in rows(runs, schedulers, lenient=False) if (states := chosen(row, wanted))
        ]
        if due and not args.dry_run:
            resubmit(due, root, schedulers)
    for row, states in due:
        for state in states:
            what = "" if state.wanted.kind == "train" else f"{state.wanted.kind} "
            reason = f" ({why(state)})" if state.reason else ""
            end = "would be submitted again" if args.dry_run else "submitted again"
            print(f"{row.id} {row.label}: {what}{state.standing.value}{reason}, {end}")
    if not due:
        print(f"nothing is {' or '.join(kind.value for kind in wanted)}")
    return 0


def chosen(row: Row, wanted: Sequence[Standing]) -> list[State]:
    """What is to be submitted again: probes that wait for a training that failed, too, for they would for ever.

    Probes of what somebody trains by hand are not: there is no job that they could wait for.
    """
    again, early = row.train.standing in wanted, by_hand(row.train)
    return [row.train] * again + [
        state
        for state in row.states[1:]
        if (state.standing in wanted and not (early and waits(state.wanted.kind)))
        or (again and waits(state.wanted.kind) and state.standing in WAITING)
    ]


def resubmit(
    due: Sequence[tuple[Row, Sequence[State]]], root: Path, schedulers: Mapping[str, Backend]
) -> None:
    """Queue states again: trainings, then the probes that wait for them. Errors from before no longer count."""
    registry.load_plugins()
    code = str(snapshot(root / "sweeps" / "code"))
    states = [state for _, some in due for state in some]
    for state in states:
        withdraw(state, schedulers)
        note(state.wanted.run, "retried", job=state.job, kind=state.wanted.kind)
    jobs = {row.run: row.train.job for row, _ in due if row.standing in ALIVE}
    some = [state for state in states if state.wanted.kind == "train"]
    given = submit([replace(order_of(state), code=code) for state in some], schedulers)
    jobs |= {state.wanted.run: job for state, job in zip(some, given, strict=True)}
    rest = [state for state in states if state.wanted.kind != "train"]
    after = [jobs.get(state.wanted.run, "") if waits(state.wanted.kind) else "" for state in rest]
    submit(
        [replace(order_of(one), code=code, after=job) for one, job in zip(rest, after, strict=True)],
        schedulers,
    )


def waits(kind: str) -> bool:
    """Whether jobs of a kind come after the training."""
    return kind == "probe"


def order_of(state: State) -> Order:
    assert state.last is not None  # what failed was submitted
    return read_order(state.last.order)
