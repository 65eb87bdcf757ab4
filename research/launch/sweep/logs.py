"""`hark logs`: what the newest jobs of runs wrote."""

import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from research.errors import HarkError
from research.launch.sweep.backend import Backend
from research.launch.sweep.named import root_of, runs_of
from research.launch.sweep.rows import INTERRUPTED, ON, Row, exit_code, rows
from research.launch.sweep.standing import State
from research.launch.sweep.submit import backends
from research.launch.sweep.tail import Reader, last_lines

SEARCHED = 200  # lines of a log for the reason of a failure
EVERY = 2.0  # s between looks


def logs_of(state: State, backends: Mapping[str, Backend]) -> list[Path]:
    """Files that the newest job of a run has written to; none while it was not given to a scheduler."""
    if state.last is None or not state.job:
        return []
    folder = state.last.order.parents[1]  # of the sweep
    return [file for file in backends[state.last.scheduler].logs(folder, state.job) if file.exists()]


def is_error(file: Path) -> bool:
    return file.suffix == ".err"


def ending(state: State, backends: Mapping[str, Backend], count: int) -> list[str]:
    """Give the lines of a log up to the one that says why a job failed, or else the last ones of any log."""
    files = sorted(logs_of(state, backends), key=is_error, reverse=True)
    ends = [lines for file in files if (lines := last_lines(file, SEARCHED))]
    for lines in ends:
        said = [number for number, line in enumerate(lines) if state.reason and state.reason in line]
        if said:
            return lines[: said[-1] + 1][-count:]
    return ends[0][-count:] if ends else []


def run(args: Namespace) -> int:
    """Print the last lines of the newest jobs; with --follow, what comes, until nothing runs or waits."""
    if args.lines < 1:
        raise HarkError(f"--lines {args.lines}: 1 or more")
    runs = runs_of(args.names, args.folder)
    schedulers = backends(root_of(runs, args.folder))
    found = rows(runs, schedulers, lenient=True)
    logs = Logs(schedulers, args.err)
    logs.open(found, args.lines)
    for row in found:
        if not any(reader.row.run == row.run for reader in logs.readers.values()):
            print(f"{row.id} {row.label}: {row.standing.value}, no log is there")
    if not args.follow:
        return 0
    try:
        while exit_code(found) == ON:
            time.sleep(EVERY)
            logs.more()
            found = rows(runs, schedulers, lenient=True)
            logs.open(found)
    except KeyboardInterrupt:
        return INTERRUPTED
    logs.more()
    return 0


@dataclass
class Opened:
    row: Row
    rank: str
    reader: Reader


@dataclass
class Logs:
    """Files of the newest jobs of runs, as they grow."""

    backends: Mapping[str, Backend]
    errors: bool  # standard error, not output
    readers: dict[Path, Opened] = field(default_factory=dict)

    def open(self, found: Sequence[Row], last: int | None = None) -> None:
        """Print files that are new, of jobs that were submitted since, too: the last lines, or else all of them."""
        new = {}
        for row in found:
            state = row.probe if row.probe and row.probe.last and row.probe.last.began else row.train
            files = [file for file in logs_of(state, self.backends) if is_error(file) == self.errors]
            ranks = [str(rank) for rank in range(len(files))] if len(files) > 1 else [""]
            for file, rank in zip(files, ranks, strict=False):
                if file not in self.readers:
                    new[file] = Opened(row, rank, Reader(file))
        self.readers |= new
        for file, opened in new.items():
            print(f"==> {file} <==", flush=True)
            if last is None:
                self.print(opened, opened.reader.lines())
            else:
                opened.reader.skip()
                self.print(opened, last_lines(file, last))

    def more(self) -> None:
        for opened in self.readers.values():
            self.print(opened, opened.reader.lines())

    def print(self, opened: Opened, lines: Sequence[str]) -> None:
        several = len({other.row.run for other in self.readers.values()}) > 1
        prefix = " ".join([opened.row.id] * several + [opened.rank] * bool(opened.rank))
        for line in lines:
            print(f"{prefix} | {line}" if prefix else line, flush=True)
