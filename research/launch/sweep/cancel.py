"""`hark cancel`: end the jobs of runs."""

from argparse import Namespace
from collections import defaultdict

from research.launch.sweep.ledger import note
from research.launch.sweep.named import root_of, runs_of
from research.launch.sweep.rows import by_hand, rows
from research.launch.sweep.standing import WAITING, Standing, State
from research.launch.sweep.submit import backends


def run(args: Namespace) -> int:
    """Write down what is not wanted, then end it, so that no job starts itself again; what is over is left alone."""
    runs = runs_of(args.names, args.folder)
    schedulers = backends(root_of(runs, args.folder))
    found = rows(runs, schedulers, lenient=False)
    jobs: dict[str, list[str]] = defaultdict(list)
    for row in found:
        for state in row.states:
            if goes_on(state) and state.last:
                jobs[state.last.scheduler].append(state.job)
                if not args.dry_run:
                    note(state.wanted.run, "cancelled", job=state.job, kind=state.wanted.kind)
    for scheduler, ids in jobs.items():
        if not args.dry_run:
            schedulers[scheduler].cancel(ids)
    for row in found:
        for state in row.states:
            print(f"{row.id} {row.label}: {told(state, dry=args.dry_run)}")
    return 0


def goes_on(state: State) -> bool:
    """Whether a job of ours runs or waits; what somebody trains by hand is theirs."""
    return state.standing in WAITING or (state.standing is Standing.running and not by_hand(state))


def told(state: State, *, dry: bool) -> str:
    what = "" if state.wanted.kind == "train" else f"{state.wanted.kind} "
    if goes_on(state):
        return f"{what}{state.standing.value}, {'would be ' if dry else ''}cancelled (job {state.job})"
    return f"{what}{state.standing.value}{f' {state.reason}' if by_hand(state) else ''}, left alone"
