"""What a training step takes on several ranks of one machine; print one JSON line per way.

    python tests/benchmarks/ranks.py
    python tests/benchmarks/ranks.py --layers 17 --dim 512 --heads 8 --batch 4 --steps 4 --dtype bf16

The ways take turns, `--rounds` times, each in processes of its own: `alone` is one process with all `--threads`; `ddp`
and `fsdp` are `--ranks` processes that share the threads and the batch; `silent` are the same ranks computing all that
`ddp` computes and exchanging nothing. Real steps: model, augmentation and optimizer of `hark train`, on random audio.
`step_s` is the median over all steps of the slower rank, `least` and `most` are medians of rounds;
`exposed_communication` is the share of a step that no computing hides, 1 - silent / step.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.distributed import GradBucket, ProcessGroup  # type: ignore[attr-defined] # in no __all__
from torch.futures import Future
from torch.multiprocessing.spawn import start_processes

from research import registry
from research.compose import compose_config
from research.contracts import Batch, Seq, Stat
from research.engine import parallel
from research.engine.gangs import Ranks, start
from research.model import assemble
from research.registry import build
from research.training import step as training
from research.training.data import Fed
from research.training.memory import keep_freed_memory, peak_mb
from research.training.optimizer import adamw
from research.training.stats import StatBag

WARMUP = 2
WAYS = ("alone", "ddp", "fsdp", "silent")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8, help="rows of all ranks together")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all ranks together")
    parser.add_argument("--steps", type=int, default=6, help="of a way in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("overrides", nargs="*", help="further overrides, as for hark train")
    return parser.parse_intermixed_args()


def student(args: argparse.Namespace, way: str, ranks: Ranks) -> training.Student:
    cfg = compose_config(
        [
            "encoder=fastconformer_medium",
            f"encoder.dim={args.dim}",
            f"encoder.depth={args.layers}",
            f"encoder.heads={args.heads}",
            f"train.precision={args.dtype}",
            f"train.batches={ranks.size}",
            f"train.parallel={'fsdp' if way == 'fsdp' else 'ddp'}",
            *args.overrides,
        ]
    ).config
    task = parallel.place(assemble(cfg), ranks, cfg.train.parallel).train()
    augment = build(cfg.augmentation).to(ranks.device)
    optimizer = adamw(task, cfg.optimizer)
    return training.Student(task, parallel.wrap(task, ranks), augment, optimizer, ranks, cfg)


def keep(_: ProcessGroup, bucket: GradBucket) -> Future[Tensor]:
    """Give a rank its own gradients back."""
    done: Future[Tensor] = Future()
    done.set_result(bucket.buffer())
    return done


def measure(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """Seconds of every step of this rank."""
    keep_freed_memory()
    ranks, times = start(args.device), []
    with ExitStack() as held:
        if way == "silent":
            held.enter_context(patch.object(parallel, "add_up", keep))
            held.enter_context(patch.object(training, "begin_sum", lambda *_: lambda: None))
        one, bag = student(args, way, ranks), StatBag(ranks.device)
        rows, size = args.batch // ranks.size, int(args.seconds * 16_000)
        audio = Seq(0.1 * torch.randn(rows, size), torch.full((rows,), size)).to(ranks.device)
        fed = repeat(Fed(Batch.clean(audio), rows * args.seconds, Stat(torch.zeros(()))))
        for step in range(WARMUP + args.steps):
            ranks.barrier()
            before = time.perf_counter()
            training.train_step(one, fed, step, bag, stop=False)
            if ranks.device.type == "cuda":
                torch.cuda.synchronize(ranks.device)
            times.append(time.perf_counter() - before)
    found = {"times": times[WARMUP:], "peak_mb": peak_mb(ranks.device)}
    ranks.close()
    return found


def enter(rank: int, size: int, args: argparse.Namespace, way: str, folder: str) -> None:
    """Be one of the ranks of a way, which meet at `args.port`."""
    torch.set_num_threads(max(1, args.threads // size))
    registry.load_plugins()
    if size > 1:
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        os.environ.update(
            zip(names, (str(rank), str(rank), str(size), "127.0.0.1", str(args.port)), strict=True)
        )
    with open(os.devnull, "w") as null:  # gloo tells of every connection
        os.dup2(null.fileno(), 1)
    Path(folder, str(rank)).write_text(json.dumps(measure(args, way)))


def run(args: argparse.Namespace, way: str) -> tuple[list[float], float]:
    """Seconds of every step of the slowest rank, and the most memory of one."""
    size = 1 if way == "alone" else args.ranks
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        args.port = one.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        start_processes(enter, (size, args, way, folder), size, start_method="forkserver")
        found = [json.loads(file.read_text()) for file in Path(folder).iterdir()]
    times = [max(each) for each in zip(*(rank["times"] for rank in found), strict=True)]
    return times, max(rank["peak_mb"] for rank in found)


def main() -> None:
    args = arguments()
    multiprocessing.set_forkserver_preload(["research.training.loop", "torch._dynamo"])
    seen: dict[str, list[tuple[list[float], float]]] = defaultdict(list)
    for _ in range(args.rounds):
        for way in args.ways:
            seen[way].append(run(args, way))
    medians = {
        way: statistics.median(t for times, _ in rounds for t in times) for way, rounds in seen.items()
    }
    for way, rounds in seen.items():
        each = [statistics.median(times) for times, _ in rounds]
        size, step = 1 if way == "alone" else args.ranks, medians[way]
        line = {"way": way, "ranks": size, "threads_per_rank": max(1, args.threads // size)}
        line |= {"step_s": round(step, 4), "least": round(min(each), 4), "most": round(max(each), 4)}
        line |= {"audio_s_per_s": round(args.batch * args.seconds / step, 1)}
        line |= {"peak_mb_per_rank": round(max(peak for _, peak in rounds))}
        if "alone" in medians:
            line["times_alone"] = round(step / medians["alone"], 3)
        if "silent" in medians and way in ("ddp", "fsdp"):
            line["exposed_communication"] = round(1 - medians["silent"] / step, 3)
        told = ("layers", "dim", "batch", "seconds", "dtype", "steps", "rounds", "device")
        print(json.dumps(line | {name: getattr(args, name) for name in told} | {"torch": torch.__version__}))


if __name__ == "__main__":
    main()
