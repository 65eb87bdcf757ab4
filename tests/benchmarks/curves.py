"""How the time of a training step grows; print a JSON line for each point and one for each curve.

    python tests/benchmarks/curves.py
    python tests/benchmarks/curves.py --kind length --dtype bf16 --plot length.png

A curve changes one thing of NEST's step at size `small`: `batch` (rows of 8 s), `length` (s of 4 rows), `size` (parameters;
small, medium, large at 4 x 8 s), `codes` (of the codebook, 8 x 8 s), `threads` (8 x 8 s). Its points take turns: `--steps`
steps of each in each of `--rounds` rounds. A point is the median over rounds of the median step, with the least and the
most. A curve is its growth `exponent`, the slope of log time over log x by least squares, and `end`, that between its last
two points: means over rounds with 95% intervals (Student's t); `ratio` is the last point's time over the first's, the
median over rounds with the least and the most. picture.py draws the lines.
"""

import argparse
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import t as student_t

sys.path.insert(0, str(Path(__file__).parents[2]))  # to be run as a file
from research.engine.gangs import Ranks
from tests.benchmarks.work import Work, about, begin, compose, parser, wait


class Point(NamedTuple):
    x: float | None = None  # None: the model's parameters
    rows: int = 8
    seconds: float = 8.0
    size: str = "small"
    words: tuple[str, ...] = ()
    threads: int | None = None


CURVES = {
    "batch": [Point(rows, rows=rows) for rows in (2, 4, 8, 16, 32)],
    "length": [Point(seconds, rows=4, seconds=seconds) for seconds in (2, 5, 10, 20, 40)],
    "size": [Point(rows=4, size=size) for size in ("small", "medium", "large")],
    "codes": [Point(codes, words=(f"quantizer.codes={codes}",)) for codes in (8192, 16_384, 65_536)],
    "threads": [Point(threads, threads=threads) for threads in (1, 2)],
}


class Taken:
    """A point that is measured: its seconds by round."""

    def __init__(self, point: Point, work: Work) -> None:
        self.point, self.work = point, work
        self.fed = work.feed(point.rows, point.seconds)
        self.x = point.x or sum(p.numel() for p in work.task.parameters())
        self.rounds: list[float] = []

    def step(self) -> float:
        device = self.work.ranks.device
        wait(device)
        before = time.perf_counter()
        self.work.step(self.fed)
        wait(device)
        return time.perf_counter() - before

    def turn(self, steps: int, threads: int) -> None:
        torch.set_num_threads(self.point.threads or threads)
        self.rounds.append(statistics.median(self.step() for _ in range(steps)))
        torch.set_num_threads(threads)


def measure(points: Sequence[Point], args: argparse.Namespace, ranks: Ranks) -> list[Taken]:
    """Let points take turns, after one round to warm up. Those of the same model share it."""
    works: dict[tuple[str, ...], Work] = {}
    for point in points:
        key = (point.size, *point.words)
        if key not in works:
            works[key] = Work(compose(point.size, args.dtype, [*point.words, *args.overrides]), ranks)
    taken = [Taken(point, works[point.size, *point.words]) for point in points]
    for turn in range(1 + args.rounds):
        for each in taken:
            each.turn(args.steps if turn else 1, args.threads)
    for each in taken:
        del each.rounds[0]
    return taken


def line(kind: str, each: Taken) -> dict[str, Any]:
    point, middle = each.point, statistics.median(each.rounds)
    spread = {
        "step_s": round(middle, 5),
        "least_s": round(min(each.rounds), 5),
        "most_s": round(max(each.rounds), 5),
    }
    facts = {"batch": point.rows, "seconds": point.seconds, "size": point.size}
    speed = {"audio_s_per_s": round(point.rows * point.seconds / middle, 1)}
    return {"benchmark": "curves", "kind": kind, "x": each.x} | spread | facts | speed


def summary(kind: str, taken: Sequence[Taken]) -> dict[str, Any]:
    """How a curve grows."""
    x = np.log([each.x for each in taken])
    y = np.log([each.rounds for each in taken]).T  # (rounds, points)
    ratios = [float(value) for value in np.exp(y[:, -1] - y[:, 0])]
    return {
        "benchmark": "curves",
        "kind": kind,
        "exponent": interval([float(np.polyfit(x, row, 1)[0]) for row in y]),
        "end": interval([float(value) for value in (y[:, -1] - y[:, -2]) / (x[-1] - x[-2])]),
        "ratio": [round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))],
        "rounds": len(y),
    }


def interval(values: Sequence[float]) -> list[float]:
    """Mean, and its 95% interval where there are several."""
    middle = statistics.mean(values)
    if len(values) < 2:
        return [round(middle, 3)]
    half = float(student_t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return [round(value, 3) for value in (middle, middle - half, middle + half)]


def arguments() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--kind", choices=list(CURVES), action="append", help="more than once; default: all")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--steps", type=int, default=1, help="of a point in a round")
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves: .png, .pdf or .svg")
    made.add_argument("overrides", nargs="*", help="further overrides, as for hark train")
    return made.parse_intermixed_args()


def main(args: argparse.Namespace) -> None:
    ranks, lines = begin(args.device, args.threads), []
    for kind in args.kind or CURVES:
        taken = measure(CURVES[kind], args, ranks)
        for told in (*(line(kind, each) for each in taken), summary(kind, taken)):
            lines.append(told | {"dtype": args.dtype} | about(ranks.device))
            print(json.dumps(lines[-1]), flush=True)
        del taken
        gc.collect()
    if args.plot:
        from research.analysis.style import save
        from tests.benchmarks.picture import draw

        save(draw(lines), args.plot)


if __name__ == "__main__":
    main(arguments())
