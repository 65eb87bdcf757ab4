"""Time one NEST training step and its parts; print one JSON line.

    python tests/benchmarks/step.py --layers 4 --dim 256 --batch 8 --seconds 8
    python tests/benchmarks/step.py --layers 17 --dim 512 --heads 8 --batch 4 --seconds 8 --dtype bf16

Real steps: the model, augmentation and optimizer of `hark train`, on random audio that is already on the device.
`step_s` is a median over `--steps` steps after three to warm up; `parts` are medians too, `rest` what no part holds.
"""

import argparse
import json
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import torch

from research.compose import compose_config
from research.contracts import Batch, Seq, Stat
from research.engine.gangs import start
from research.model import assemble
from research.registry import build
from research.training import step as training
from research.training.data import Fed
from research.training.memory import keep_freed_memory
from research.training.optimizer import adamw
from research.training.stats import StatBag

WARMUP = 3


class Clock:
    """Seconds by part, of one step at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps: list[dict[str, float]] = []

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Book every call of `owner.name` under `part`."""
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            before = self.now()
            result = inner(*args, **kwargs)
            self.steps[-1][part] += self.now() - before
            return result

        object.__setattr__(owner, name, timed)

    def median(self, part: str) -> float:
        return statistics.median(step[part] for step in self.steps[WARMUP:])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("overrides", nargs="*", help="further overrides, as for hark train")
    return parser.parse_args()


def student(args: argparse.Namespace) -> training.Student:
    cfg = compose_config(
        [
            "encoder=fastconformer_medium",
            f"encoder.dim={args.dim}",
            f"encoder.depth={args.layers}",
            f"encoder.heads={args.heads}",
            f"train.precision={args.dtype}",
            *args.overrides,
        ]
    ).config
    ranks = start(args.device)
    objective = assemble(cfg).to(ranks.device).train()
    augment = build(cfg.augmentation).to(ranks.device)
    return training.Student(objective, objective, augment, adamw(objective, cfg.optimizer), ranks, cfg)


def batches(args: argparse.Namespace, device: torch.device) -> Iterator[Fed]:
    size = int(args.seconds * 16_000)
    audio = Seq(0.1 * torch.randn(args.batch, size), torch.full((args.batch,), size)).to(device)
    return repeat(Fed(Batch.clean(audio), args.batch * args.seconds, Stat(torch.zeros(()))))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    one = student(args)
    clock = Clock(one.ranks.device)
    objective: Any = one.task
    for owner, name, part in (
        (objective.frontend, "forward", "mel"),
        (objective.encoder, "embed", "subsampling"),
        (objective.encoder, "context", "layers"),
        (objective.quantizer, "forward", "quantizer"),
        (objective.head, "forward", "head"),
        (one.optimizer, "step", "optimizer"),
        (one, "augment", "augmentation"),
    ):
        clock.wrap(owner, name, part)
    time_backward(clock)
    data, bag = batches(args, one.ranks.device), StatBag(one.ranks.device)
    for step in range(WARMUP + args.steps):
        clock.steps.append(defaultdict(float))
        before = clock.now()
        training.train_step(one, data, step, bag, stop=False)
        clock.steps[-1]["step"] = clock.now() - before
    return report(args, clock, sum(p.numel() for p in objective.parameters()))


def time_backward(clock: Clock) -> None:
    """Book every `tensor.backward()` of this process."""
    inner = torch.Tensor.backward

    def timed(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        before = clock.now()
        inner(self, *args, **kwargs)
        clock.steps[-1]["backward"] += clock.now() - before

    torch.Tensor.backward = timed  # type: ignore[method-assign]


def report(args: argparse.Namespace, clock: Clock, parameters: int) -> dict[str, Any]:
    parts = {part: round(clock.median(part), 5) for part in sorted({p for step in clock.steps for p in step})}
    step = parts.pop("step")
    device = clock.device
    cuda = device.type == "cuda"
    return {
        "step_s": step,
        "audio_s_per_s": round(args.batch * args.seconds / step, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "peak_device_mb": round(torch.cuda.max_memory_allocated(device) / 1e6) if cuda else None,
        "parts": parts | {"rest": round(step - sum(parts.values()), 5)},
        "steps": args.steps,
        "layers": args.layers,
        "dim": args.dim,
        "batch": args.batch,
        "seconds": args.seconds,
        "dtype": args.dtype,
        "parameters": parameters,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(measure(arguments())))
