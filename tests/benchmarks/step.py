"""Time one training step and its parts; print one JSON line.

    python tests/benchmarks/step.py --size small --batch 8 --seconds 8
    python tests/benchmarks/step.py --size large --batch 4 --seconds 8 --dtype bf16
    python tests/benchmarks/step.py --method w2v_bert --layers 6 --dim 384 encoder.positions=rope

Real steps: the model, augmentation and optimizer of `hark train`, on random audio that is already on the device.
`step_s` is a median over `--steps` steps after three to warm up, with the least and the most; `parts` are medians too,
`rest` what no part holds. `needed_gflop` is what the loss needs (flops.py), `matmul_gflop_per_s` the best rate of linear
layers of the model's shapes in this process (limits.py), `fraction` how much of it the step reaches. On a GPU `mfu_sheet`
is the share of the data sheet's rate.
"""

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # to be run as a file
from tests.benchmarks.flops import needed
from tests.benchmarks.limits import best, model_shapes, products, sheet_gflop_per_s
from tests.benchmarks.work import METHODS, SIZES, Work, about, begin, compose, parser, peak_rss_mb, wait

WARMUP = 3


class Clock:
    """Seconds by part, of one step at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps: list[dict[str, float]] = []

    def now(self) -> float:
        wait(self.device)
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
    made = parser(__doc__)
    made.add_argument("--method", default="nest", help=f"{', '.join(METHODS)}, or any other objective")
    made.add_argument("--size", choices=list(SIZES), default="small")
    made.add_argument("--layers", type=int, help="in place of the size's")
    made.add_argument("--dim", type=int, help="likewise")
    made.add_argument("--heads", type=int, help="likewise")
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--seconds", type=float, default=8.0)
    made.add_argument("--steps", type=int, default=10)
    made.add_argument("overrides", nargs="*", help="further overrides, as for hark train")
    return made.parse_intermixed_args()


def dims(args: argparse.Namespace) -> list[str]:
    asked = {"depth": args.layers, "dim": args.dim, "heads": args.heads}
    return [f"encoder.{key}={value}" for key, value in asked.items() if value is not None]


def watch(work: Work, clock: Clock) -> None:
    """Book the parts that this method has."""
    task = work.task
    for owner, name, part in (
        (task.frontend, "forward", "mel"),
        (task.encoder, "embed", "subsampling"),
        (task.encoder, "context", "layers"),
        (getattr(task, "quantizer", None), "forward", "quantizer"),
        (getattr(task, "head", None), "forward", "head"),
        (work.student.optimizer, "step", "optimizer"),
        (work.student, "augment", "augmentation"),
    ):
        if owner is not None:
            clock.wrap(owner, name, part)
    time_backward(clock)


def time_backward(clock: Clock) -> None:
    """Book every `tensor.backward()` of this process."""
    inner = torch.Tensor.backward

    def timed(self: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        before = clock.now()
        inner(self, *args, **kwargs)
        clock.steps[-1]["backward"] += clock.now() - before

    torch.Tensor.backward = timed  # type: ignore[method-assign]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    ranks = begin(args.device, args.threads)
    cfg = compose(args.size, args.dtype, [*dims(args), *args.overrides], args.method)
    work, clock = Work(cfg, ranks), Clock(ranks.device)
    watch(work, clock)
    fed = work.feed(args.batch, args.seconds)
    for _ in range(WARMUP + args.steps):
        clock.steps.append(defaultdict(float))
        before = clock.now()
        work.step(fed)
        clock.steps[-1]["step"] = clock.now() - before
    return report(args, work, clock)


def report(args: argparse.Namespace, work: Work, clock: Clock) -> dict[str, Any]:
    parts = {part: round(clock.median(part), 5) for part in sorted({p for step in clock.steps for p in step})}
    step, device, task = parts.pop("step"), clock.device, work.task
    each = sorted(step["step"] for step in clock.steps[WARMUP:])
    cuda = device.type == "cuda"
    told = {
        "benchmark": "step",
        "method": args.method,
        "size": args.size,
        "batch": args.batch,
        "seconds": args.seconds,
        "dtype": args.dtype,
        "step_s": step,
        "least_s": round(each[0], 5),
        "most_s": round(each[-1], 5),
        "audio_s_per_s": round(args.batch * args.seconds / step, 1),
        "peak_rss_mb": peak_rss_mb(),
        "peak_device_mb": round(torch.cuda.max_memory_allocated(device) / 1e6) if cuda else None,
    }
    return (
        told
        | speed(args, work, step)
        | {"parts": parts | {"rest": round(step - sum(parts.values()), 5)}, "steps": args.steps}
        | {"layers": task.encoder.depth, "dim": task.encoder.dim, "overrides": args.overrides}
        | {"parameters": sum(p.numel() for p in task.parameters())}
        | about(device)
    )


def speed(args: argparse.Namespace, work: Work, step: float) -> dict[str, Any]:
    """Set the needed FLOPs of a step against what the device can do."""
    cfg, encoder, device = work.cfg, work.task.encoder, work.ranks.device
    flops, how = needed(cfg, args.batch, args.seconds)
    rate = 1e-9 * flops / step
    hop = work.task.frontend.hop * encoder.stride
    frames = args.batch * -(-round(args.seconds * cfg.data.sample_rate) // hop)
    top = best(products(model_shapes(frames, encoder.dim), args.dtype, device))
    told = {"needed_gflop": round(1e-9 * flops, 2), "flops_by": how, "gflop_per_s": round(rate, 1)}
    told |= {"matmul_gflop_per_s": top, "fraction": round(rate / top, 3)}
    known = sheet_gflop_per_s(device, args.dtype)
    return told | {"mfu_sheet": round(rate / known, 3) if known else None}


if __name__ == "__main__":
    print(json.dumps(measure(arguments())))
