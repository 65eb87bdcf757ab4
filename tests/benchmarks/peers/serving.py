"""What both sides of a comparison do: get ready, then work so many steps whenever told to, and say what that took.

Knows torch alone, so that it runs in a peer's environment. The work is one JSON object on the command line; the first
line of stdout says how many parameters are trained. From then on every line of stdin is a number of steps, and every line
of stdout the seconds of each and the peak of memory so far.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

WARMUP = 3
Work = dict[str, Any]
Prepared = tuple[Iterable[torch.nn.Parameter], Callable[[], None]]  # the model's, and the step


def serve(prepare: Callable[[Work], Prepared]) -> None:
    """Answer until stdin ends. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    torch.manual_seed(0)
    parameters, step = prepare(work)
    for _ in range(WARMUP):
        step()
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    print(json.dumps({"parameters": trained}), file=answers, flush=True)
    for line in sys.stdin:
        took = [timed(step) for _ in range(int(line))]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": took, "peak_rss_mb": round(peak)}), file=answers, flush=True)


def timed(step: Callable[[], None]) -> float:
    before = time.perf_counter()
    step()
    return time.perf_counter() - before


def clips(work: Work) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of equal lengths: (B, N), (B,)."""
    size = int(work["seconds"] * 16_000)
    return 0.1 * torch.randn(work["batch"], size), torch.full((work["batch"],), size)
