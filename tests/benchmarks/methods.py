"""What a training step of each method costs beside NEST's; print one JSON line per method.

    python tests/benchmarks/methods.py data.train=[data/debspeech-mini/train.jsonl]

The methods are those of the sweep `methods`, on its batches; they take turns, one step each, in one process. What is
told is CPU time (on a GPU, time) per second of audio, so that other work on the machine hardly matters.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import torch
import yaml

from research.compose import compose_config
from research.contracts import Objective
from research.engine.gangs import Ranks, start
from research.engine.parallel import place
from research.model import assemble
from research.registry import build
from research.runs import ROOT
from research.training.given import Given
from research.training.loop import open_source
from research.training.memory import keep_freed_memory
from research.training.optimizer import adamw
from research.training.stats import StatBag
from research.training.step import Student, train_step

WARMUP = 2
FIRST = "mini_nest"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("overrides", nargs="+")
    args = parser.parse_intermixed_args()
    keep_freed_memory()
    recipe = yaml.safe_load((ROOT / "sweeps/sweep/methods.yaml").read_text())
    names = [name.strip() for name in recipe["grid"]["experiment"].split(",")] + ["mini_ctc"]
    words = [*recipe["set"], *args.overrides, "log.wandb=disabled", "data.workers=0"]
    ranks = start("auto")
    costs: dict[str, list[float]] = {name: [] for name in names}
    running = {name: steps([f"experiment={name}", *words], ranks) for name in names}
    for turn in range(WARMUP + args.rounds):
        for name, cost in ((name, next(each)) for name, each in running.items()):
            if turn >= WARMUP:
                costs[name].append(cost)
    least = statistics.median(costs[FIRST])
    for name, cost in sorted(costs.items(), key=lambda item: statistics.median(item[1])):
        middle = statistics.median(cost)
        told = {"cpu_ms_per_audio_s": round(1e3 * middle, 2), "times_nest": round(middle / least, 2)}
        print(json.dumps({"device": str(ranks.device), "method": name, **told}))


def steps(overrides: list[str], ranks: Ranks) -> Iterator[float]:
    """Train a method; give after every step what a second of audio took."""
    cfg = compose_config(overrides).config
    task: Objective = place(assemble(cfg), ranks, cfg.train.parallel)
    source = open_source(cfg, ranks, Given.of(task))
    augment = build(cfg.augmentation).to(ranks.device)
    student = Student(task, task, augment, adamw(task, cfg.optimizer), ranks, cfg)
    bag, batches = StatBag(ranks.device), source.train(0, [])
    task.train()
    for step in count(1):
        with spent(ranks.device) as took:
            outcome = train_step(student, batches, step, bag, stop=False)
        yield took[0] / outcome.seconds


@contextmanager
def spent(device: torch.device) -> Iterator[list[float]]:
    """Seconds of CPU, or of a GPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    took: list[float] = []
    before = clock()
    yield took
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    took.append(clock() - before)


if __name__ == "__main__":
    main()
