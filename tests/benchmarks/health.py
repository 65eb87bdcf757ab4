"""Time what health costs beside the steps between two measurements; print one JSON line.

    python tests/benchmarks/health.py experiment=mini_nest data.train=[data/debspeech-mini/train.jsonl]

Steps on real batches and measurements take turns in one process, so that whatever else a machine does meets both.
`share` is the time of a measurement over that of `health.every` steps; `booking_s` is what every step pays.
"""

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch

from research.compose import compose_config
from research.contracts import Objective
from research.engine.gangs import start
from research.engine.parallel import place
from research.model import assemble
from research.registry import build
from research.training.given import Given
from research.training.health.guard import Guard
from research.training.health.state import Vitals
from research.training.loop import open_source
from research.training.memory import keep_freed_memory
from research.training.optimizer import adamw
from research.training.stats import StatBag
from research.training.step import Student, train_step
from research.training.tracking import Tracker

WARMUP = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("overrides", nargs="+")
    args = parser.parse_intermixed_args()
    keep_freed_memory()
    cfg = compose_config([*args.overrides, "log.wandb=disabled"]).config
    ranks = start(cfg.run.device)
    task: Objective = place(assemble(cfg), ranks, cfg.train.parallel)
    source = open_source(cfg, ranks, Given.of(task))
    augment = build(cfg.augmentation).to(ranks.device)
    student = Student(task, task, augment, adamw(task, cfg.optimizer), ranks, cfg)
    bag, vitals, times = StatBag(ranks.device), Vitals(), {"step": [], "health": [], "booking": []}
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(cfg.health, student, Path(folder), Tracker(cfg, Path(folder), 0, writes=False))
        batches = guard.begin(vitals, 0, source.train(0, []))
        task.train()
        every = cfg.health.every
        for step in islice(range(1, 1 << 30), WARMUP + args.rounds):
            marks = [now(ranks.device)]
            outcome = train_step(student, batches, step, bag, stop=False)
            marks.append(now(ranks.device))
            guard.check(vitals, step * every, outcome)
            marks.append(now(ranks.device))
            guard.check(vitals, step * every + 1, outcome)
            marks.append(now(ranks.device))
            if step > WARMUP:
                for name, before, after in zip(times, marks, marks[1:], strict=False):
                    times[name].append(after - before)
    found = {f"{name}_s": round(statistics.median(values), 6) for name, values in times.items()}
    found["share"] = round(found["health_s"] / (every * found["step_s"]), 5)
    print(json.dumps({"device": str(ranks.device), "every": every, **found}))


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
