"""Time what surrounds the encoder, each part alone; print one JSON line for each part and size.

    python tests/benchmarks/parts.py
    python tests/benchmarks/parts.py --size large --dtype bf16 --batch 16 augmentation=noise

`mel` is the frontend on a batch, `augmentation` that of the config, `quantizer` the codes of the masked frames,
`prediction` the loss from the encoder's output on, forward and backward, `optimizer` an update of all weights. `ms` is a
median with the least and the most.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # to be run as a file
from research.contracts import Encoded, Seq
from research.engine.gangs import Ranks
from tests.benchmarks.work import Work, about, begin, compose, parser, wait

Part = tuple[str, Callable[[], object]]


def parts(work: Work, rows: int, seconds: float) -> Iterator[Part]:
    task, batch = work.task, work.feed(rows, seconds).batch
    feats = task.frontend(batch.audio)  # (B, S, F)
    yield "mel", lambda: task.frontend(batch.audio)
    yield "augmentation", lambda: work.student.augment(batch)
    lengths = -(-feats.lengths // task.encoder.stride)
    frames = torch.randn(rows, int(lengths.max()), task.encoder.dim, device=work.ranks.device)  # (B, T, D)
    tokens = torch.randn(
        int(lengths.sum()) // 2, task.frontend.dim * task.encoder.stride, device=frames.device
    )
    yield "quantizer", lambda: task.quantizer(tokens)
    frames.requires_grad_()

    def encoder(feats: Seq, layers: Any = ()) -> Encoded:
        return Encoded(Seq(frames, lengths))

    def prediction() -> None:
        with work.student.autocast():
            loss = task(batch).total
        loss.backward()

    task.encoder.forward, whole = encoder, task.encoder.forward
    task.frontend.forward, mel = (lambda _: feats), task.frontend.forward
    yield "prediction", prediction
    task.encoder.forward, task.frontend.forward = whole, mel
    for parameter in task.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    yield "optimizer", work.student.optimizer.step


def measure(size: str, args: argparse.Namespace, ranks: Ranks) -> Iterator[dict[str, Any]]:
    work = Work(compose(size, args.dtype, args.overrides), ranks)
    for name, call in parts(work, args.batch, args.seconds):
        call()
        took = sorted(1e3 * seconds(call, ranks.device) for _ in range(args.repeats))
        told = {
            "benchmark": "parts",
            "part": name,
            "size": size,
            "batch": args.batch,
            "seconds": args.seconds,
        }
        told |= {"dtype": args.dtype, "ms": round(statistics.median(took), 3)}
        yield told | {"least_ms": round(took[0], 3), "most_ms": round(took[-1], 3)} | about(ranks.device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    wait(device)
    before = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - before


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--size", action="append", help="more than once; default: small and large")
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--seconds", type=float, default=8.0)
    made.add_argument("--repeats", type=int, default=15)
    made.add_argument("overrides", nargs="*", help="further overrides, as for hark train")
    args = made.parse_intermixed_args()
    ranks = begin(args.device, args.threads)
    for size in args.size or ("small", "large"):
        for told in measure(size, args, ranks):
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
