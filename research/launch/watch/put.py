"""`hark probe` of one step, within a process that goes on: all that the process draws and sets stays as it was."""

import json
import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import numpy as np
import torch

from research import runs
from research.config import Watch
from research.errors import HarkError
from research.evaluation import command
from research.evaluation.probe import probe
from research.evaluation.records import PRETRAINED, RANDOM, Line, alone, store
from research.files import write

BASELINE = "log_mel"  # one is enough for what does not move


class Words(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise HarkError(f"watch: {message}; watch.words takes words of `hark probe`")


def words_of(watch: Watch, step: int) -> list[str]:
    """What is typed after `hark probe RUN`."""
    sizes = ["--seeds", str(watch.seeds), "--sentences", str(watch.sentences), "--baseline", BASELINE]
    return ["--step", str(step), "--probe", *watch.probes, *sizes, *watch.words.split()]


def parse(run: Path, words: Sequence[str]) -> Namespace:
    """HarkError for words that `hark probe` does not know."""
    parser = Words("hark probe", add_help=False)
    command.add_arguments(parser)
    return parser.parse_args([str(run), *words])


def put(run: Path, words: Sequence[str]) -> dict[str, float]:
    """Probe a step, keep the lines beside those of other steps, and give the numbers that are logged.

    Lines of the same step that are there already stay: they are of `hark probe`, which takes more seeds.
    """
    began = time.monotonic()
    args = parse(run, words)
    with untouched(), TemporaryDirectory() as away:
        args.out = Path(away) / "probes.jsonl"
        lines, left = probe(args)
    if left:
        raise HarkError("; ".join(left))
    there = {(line["step"], line["probe"]) for line in runs.read_jsonl(run / "probes.jsonl")}
    new = [line for line in lines if (line["step"], line["probe"]) not in there]
    for task in dict.fromkeys(line["task"] for line in new):
        store(run / "probes.jsonl", [line for line in new if line["task"] == task])
    return numbers(lines) | {"seconds": round(time.monotonic() - began, 3)}


def forget(run: Path, steps: Collection[int]) -> None:
    """Drop what probes.jsonl says of some steps."""
    path = run / "probes.jsonl"
    if steps and path.exists():
        with alone(path):
            kept = [line for line in runs.read_jsonl(path) if line["step"] not in steps]
            write(path, "".join(json.dumps(line) + "\n" for line in kept))


def numbers(lines: Sequence[Line]) -> dict[str, float]:
    """PROBE/pretrained, PROBE/random_init, and PROBE/gain: how much better the first is. Each on its chosen layer."""
    values: dict[str, float] = {}
    for line in lines:
        if line["kind"] == "score" and line["headline"] and line["chosen"]:
            values[f"{line['probe']}/{line['representation']}"] = line["mean"]
    for name, falls in {line["probe"]: line.get("falls", False) for line in lines}.items():
        ours, theirs = (values[f"{name}/{side}"] for side in (PRETRAINED, RANDOM))
        values[f"{name}/gain"] = theirs - ours if falls else ours - theirs
    return values


@contextmanager
def untouched() -> Iterator[None]:
    """Give generators, and what torch is set to, back as they were."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  libraries draw from it
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    cuda = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(cuda), torch.enable_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(exact)
