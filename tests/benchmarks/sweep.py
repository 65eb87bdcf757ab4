"""What a sweep costs beside its training; print a table.

    python tests/benchmarks/sweep.py                                        # jobs on this machine
    eval "$(make slurm-up)"; python tests/benchmarks/sweep.py cluster=slurm cluster.memory_gb=2
    python tests/benchmarks/sweep.py --only jobs --repeats 5

The grid is objective x quantizer.codes x optimizer.lr x run.seed, 200 cells. `compose` and `preflight` compare a cell on
its own with cells together, in turn in one process that has imported all; `dry run` is `hark sweep --dry-run` of all of
them as typed in a shell, imports included. `jobs` sends tiny cells, tells one of them to stop and go on (SIGUSR2, as
SLURM before a time limit), and reads what the runs wrote down: jobs.jsonl and metrics.jsonl. All are medians over
`--repeats`, and of times of jobs over jobs, too.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from research import runs
from research.launch.sweep import ledger

ROOT = Path(__file__).parents[2]
DATA = ROOT / "data" / "debspeech-mini"
BASE = (
    "experiment=nest_demo",
    f"data.train=[{DATA / 'train.jsonl'}]",
    f"data.valid=[{DATA / 'valid.jsonl'}]",
)
GRID = (
    "objective=nest,best_rq",
    "quantizer.codes=16,32,64,128,256",
    "optimizer.lr=1e-4,3e-4,1e-3,3e-3",
    "run.seed=range(5)",
)
TINY = (
    "encoder=fastconformer_tiny",
    "encoder.depth=1",
    "data.batch_seconds=10",
    "data.buckets=4",
    "data.max_seconds=5",
    "train.log_every=1",
    "log.wandb=disabled",
    "train.steps=150",
)
ALONE = 10  # cells that are composed and checked one by one
STEPS = 5  # that a job has done when it is told to stop
PATIENCE = 300  # s

Times = dict[str, list[float]]


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    before = time.perf_counter()
    result = work()
    return time.perf_counter() - before, result


def composing(folder: Path, overrides: list[str]) -> Iterator[tuple[str, float]]:
    from research.compose import compose_config
    from research.launch.preflight import preflight
    from research.launch.sweep.checks import preflight_cells
    from research.launch.sweep.grid import cells
    from research.launch.sweep.recipe import read_recipe

    recipe = read_recipe([*BASE, *GRID, f"run.folder={folder}", *overrides])
    seconds, found = timed(lambda: cells(recipe))
    yield f"compose a cell, of {len(found)} together", seconds / len(found)
    some = found[:: len(found) // ALONE]
    seconds, _ = timed(lambda: [compose_config(cell.overrides) for cell in some])
    yield "compose a cell, alone", seconds / len(some)
    seconds, _ = timed(lambda: preflight_cells(found))
    yield f"preflight of a cell, of {len(found)} together", seconds / len(found)
    seconds, _ = timed(lambda: [preflight(cell.composed) for cell in some if cell.composed])
    yield "preflight of a cell, alone", seconds / len(some)


def dry_run(folder: Path, overrides: list[str]) -> Iterator[tuple[str, float]]:
    seconds, _ = timed(lambda: sweep(*BASE, *GRID, f"run.folder={folder}", *overrides, "--dry-run"))
    yield "dry run of 200 cells", seconds


def jobs(folder: Path, overrides: list[str]) -> Iterator[tuple[str, float]]:
    grid = ("quantizer.codes=16,32", "run.seed=0,1")
    seconds, _ = timed(
        lambda: sweep(*BASE, *TINY, *grid, "cluster.hours=1", f"run.folder={folder}", *overrides)
    )
    yield "hark sweep of 4 cells, until it returns", seconds
    found = [path.parent for path in folder.glob("*/jobs.jsonl")]
    stopped = wait(lambda: next((run for run in found if first_step(run, 0.0, STEPS)), None))
    began = [event for event in ledger.events(stopped) if event["event"] == "began"]
    told = time.time()
    os.kill(began[-1]["pid"], signal.SIGUSR2)
    wait(lambda: all(runs.finished(run) for run in found))
    for run in found:
        yield from lags(run, told if run == stopped else None)


def lags(run: Path, told: float | None) -> Iterator[tuple[str, float]]:
    """Seconds from event to event of a run; `told`: when a signal was sent."""
    events = ledger.events(run)
    began = [event["time"] for event in events if event["event"] == "began"]
    for start in began:
        yield "job: begun -> first step logged", first_step(run, start) - start
    if told is not None:
        after = next(time for time in began if time > told)
        ended = next(each["time"] for each in events if each["event"] == "ended" and each["time"] > told)
        yield "job: told to stop -> saved and queued again", ended - told
        yield "job: queued again -> begun again", after - ended
        yield "job: queued again -> next step logged", first_step(run, after) - ended


def first_step(run: Path, after: float, count: int = 1) -> float:
    """Time of the step that was logged as number `count` since; 0 if there is none."""
    lines = runs.read_jsonl(run / "metrics.jsonl")
    times = [line["time"] for line in lines if line["split"] == "train" and line["time"] > after]
    return times[count - 1] if len(times) >= count else 0.0


def wait(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        if time.monotonic() > end:
            sys.exit(f"waited {PATIENCE} s")
        time.sleep(0.1)
    return found


def sweep(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "research.cli", "sweep", *words],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )


PARTS = {"compose": composing, "dry-run": dry_run, "jobs": jobs}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="of every cell, for example cluster=slurm")
    args = parser.parse_args()
    times: Times = defaultdict(list)
    for _ in range(args.repeats):
        for name in args.only or PARTS:
            with tempfile.TemporaryDirectory() as folder:
                for what, seconds in PARTS[name](Path(folder), args.overrides):
                    times[what].append(seconds)
    table = Table("what", "median s", "least", "most", "n", box=None)
    for what, each in times.items():
        table.add_row(
            what, *(f"{value:.3f}" for value in (median(each), min(each), max(each))), str(len(each))
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
