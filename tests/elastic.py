"""Runs whose ranks write down what they hear, and end where they are told to."""

import json
import os
import signal
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.multiprocessing.spawn import ProcessExitedException

from plugins.objectives.nest import NEST
from research.compose import compose_config
from research.registry import register
from research.training.loop import train
from tests.engines import VARIABLES, free_port, preload
from tests.runs import TINY


@register("nest_told")
class ToldNEST(NEST):
    """Appends the ids of every step to $HARK_TEST_HEARD; $HARK_TEST_END=step:signal ends the process there."""

    @dataclass(kw_only=True)
    class Config(NEST.Config):
        pass

    ids = ()

    def forward(self, batch):
        if self.training:
            self.ids = (*self.ids, batch.ids)
        return super().forward(batch)

    def on_step_end(self, step):
        where = {"step": step, "rank": int(os.environ["RANK"]), "size": int(os.environ["WORLD_SIZE"])}
        with open(os.environ["HARK_TEST_HEARD"], "a") as file:
            file.write(json.dumps({**where, "ids": self.ids}) + "\n")
        self.ids = ()
        last, number = map(int, os.environ["HARK_TEST_END"].split(":"))
        if step == last:
            os.kill(os.getpid(), number)


def be_rank(rank, size, port, environment, overrides):
    values = (rank, rank, size, "127.0.0.1", port)
    os.environ.update(dict(zip(VARIABLES, map(str, values), strict=True)) | environment)
    torch.set_num_threads(1)
    sys.exit(train(compose_config(overrides)))


def leg(size, data, folder, *overrides, end="0:0"):
    """Train with `size` ranks until a step and a signal, or to the end; give the exit codes that were not 0."""
    preload()
    heard = {"HARK_TEST_HEARD": str(folder / "heard.jsonl"), "HARK_TEST_END": end}
    (folder / "runs").mkdir(exist_ok=True)
    paths = (
        f"data.train=[{data['train']}]",
        f"data.valid=[{data['valid']}]",
        f"run.folder={folder / 'runs'}",
    )
    told = (*TINY, "objective=nest_told", "data.workers=0", "data.reader=torch", *paths, *overrides)
    try:
        torch.multiprocessing.start_processes(
            be_rank, (size, free_port(), heard, told), nprocs=size, start_method="forkserver"
        )
    except ProcessExitedException as error:
        return error.exit_code
    return 0


def order(folder):
    """Ids of every step in the order of its batches; steps that were done twice heard the same."""
    steps = defaultdict(dict)
    for line in map(json.loads, (Path(folder) / "heard.jsonl").read_text().splitlines()):
        for micro, ids in enumerate(line["ids"]):
            number = micro * line["size"] + line["rank"]
            assert steps[line["step"]].setdefault(number, ids) == ids, line
    return {step: [batches[number] for number in sorted(batches)] for step, batches in steps.items()}


KILLED = -signal.SIGKILL
STOPPED = 128 + signal.SIGTERM
