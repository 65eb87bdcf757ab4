"""Run the sides of a comparison turn by turn, each time as a process of its own, and tell what they took."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEMO = ROOT / "build/peers/nemo/bin/python"


class Took(NamedTuple):
    """One turn of one side."""

    wall: float  # s, from the start of the process to its end
    cpu: float  # s, of the process and of those that it waited for
    rss: float  # MB, the peak of the largest of them
    said: dict[str, Any]  # the last line of its stdout


def hark(name: str) -> list[str]:
    """The command of hark's side."""
    return [sys.executable, "-m", f"tests.benchmarks.peers.{name}"]


def nemo(name: str) -> list[str]:
    """The command of NeMo's side; exits where it is not installed."""
    if not NEMO.exists():
        sys.exit(f"{NEMO}: is not there; type make bench-peers")
    return [str(NEMO), str(HERE / f"peers/{name}.py")]


def turn(command: Sequence[str], work: Mapping[str, Any], env: Mapping[str, str] | None = None) -> Took:
    """Do the work, one JSON object on the command line, in a new process with so many `threads`."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(work["threads"]))
    with tempfile.TemporaryFile("w+") as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, json.dumps(work)], cwd=ROOT, env={**os.environ, **threads, **(env or {})}, text=True,
            stdout=subprocess.PIPE, stderr=errors,
        )  # fmt: skip
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begin
        if process.returncode or not lines:
            errors.seek(0)
            sys.exit(f"{errors.read()[-2000:]}\n{command}: ended with {process.returncode}")
    return Took(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3, json.loads(lines[-1]))


def rounds(sides: Mapping[str, Callable[[], Took]], repeats: int) -> dict[str, list[Took]]:
    """Give every side its turn, again and again; nothing else of ours runs meanwhile."""
    took: dict[str, list[Took]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            took[name].append(side())
    return took


def middle(values: Sequence[float], digits: int = 3) -> float:
    return round(statistics.median(values), digits)


def spread(values: Sequence[float], digits: int = 2) -> list[float]:
    """Median, least and most."""
    return [middle(values, digits), round(min(values), digits), round(max(values), digits)]
