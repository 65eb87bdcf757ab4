"""How long it takes to read many runs into a data frame; print a table.

    python tests/benchmarks/frame.py
    python tests/benchmarks/frame.py --runs 200 --lines 1000

Writes run folders as training and probing leave them into a temporary folder, with a cache folder of its own: a grid of
two factors and seeds, `--lines` lines of metrics each. `first` has no cache yet, `again` finds nothing changed, `few
changed` finds ten runs longer by a line; all in one process, imports done, files in the page cache. `curves` and
`layers` read all runs' files again. Medians over `--repeats`, of the wall clock and of this process's CPU time: they are
the same on a machine that does nothing else.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from research import runs
from research.analysis import curves, frame
from research.compose import Variants
from research.config import Config
from research.registry import load_plugins

CHANGED = 10
Times = tuple[float, float]  # s: wall clock, CPU


def leave(folder: Path, count: int, lines: int) -> None:
    """Write finished, probed runs."""
    variants = Variants(Config, ["data.train=[x.jsonl]", f"run.folder={folder}"])
    for number in range(count):
        seed, cell = number % 5, number // 5
        words = [f"quantizer.codes={2 ** (cell % 8 + 3)}", f"optimizer.lr={0.001 * (cell // 8 + 1)}"]
        composed = variants.compose([*words, f"run.seed={seed}"])
        run = runs.folder(composed.config)
        run.mkdir()
        kept = {"plugins": composed.choices, **runs.values_of(composed.config)}
        (run / "config.yaml").write_text(OmegaConf.to_yaml(kept))
        (run / "overrides.yaml").write_text(OmegaConf.to_yaml(composed.overrides))
        (run / "code.json").write_text(json.dumps({"commit": "0" * 40, "diff": "x" * 40_000}))
        (run / "cost.json").write_text('{"wall_s": 60, "device_h": 0.05, "audio_h": 2.0}')
        (run / "metrics.jsonl").write_text("".join(logged(step) for step in range(lines)))
        (run / "probes.jsonl").write_text("".join(map(scored, range(10))))
        runs.finish(run, lines)


def logged(step: int) -> str:
    names = ("loss", "acc", "grad_norm", "lr", "mask_ratio", "padding", "pred_ppl", "target_ppl", "usage")
    values = dict.fromkeys(names, 1.0 / (step + 2))
    return json.dumps({"schema": 1, "step": step + 1, "split": "train", "time": time.time(), **values}) + "\n"


def scored(number: int) -> str:
    layer, side = number // 2, ("pretrained", "random_init")[number % 2]
    line = {"schema": 1, "kind": "score", "probe": "phone_frames", "representation": side, "layer": layer}
    line |= {"period": 0.04, "chosen": layer == 2, "headline": True, "metric": "accuracy", "step": 1000}
    return json.dumps(line | {"mean": 0.5 + layer / 10, "low": 0.4, "high": 0.9, "values": [0.5] * 3}) + "\n"


def timed(work: Callable[[], Any]) -> Times:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(folder: Path, times: dict[str, list[Times]]) -> None:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        times["first"].append(timed(lambda: frame.runs(folder)))
        times["again"].append(timed(lambda: frame.runs(folder)))
        for run in sorted(folder.iterdir())[:CHANGED]:
            with open(run / "metrics.jsonl", "a") as file:
                file.write(logged(10_000))
        times[f"{CHANGED} changed"].append(timed(lambda: frame.runs(folder)))
        found = frame.runs(folder)
        times["curves"].append(timed(lambda: curves.curves(found, "loss")))
        times["layers"].append(timed(lambda: curves.layers(found, "phone_frames")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=100, help="of metrics, per run")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    times: dict[str, list[Times]] = defaultdict(list)
    load_plugins()
    with tempfile.TemporaryDirectory() as folder:
        leave(Path(folder), args.runs, args.lines)
        for _ in range(args.repeats):
            measure(Path(folder), times)
    table = Table(f"{args.runs} runs", "wall s", "least", "most", "CPU s", "least", "most", box=None)
    for what, each in times.items():
        shown = [f(side) for side in zip(*each, strict=True) for f in (median, min, max)]
        table.add_row(what, *(f"{value:.2f}" for value in shown))
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
