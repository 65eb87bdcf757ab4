"""Measure how fast a device multiplies matrices and copies memory; print one JSON line.

    python tests/benchmarks/limits.py
    python tests/benchmarks/limits.py --device cuda

GFLOP/s by library of linear layers without bias, (M, I) x (I, O), named MxIxO: square, and those of the sizes of step.py
at its batches. On a CPU `torch` is what torch gives them to by itself and `onednn` oneDNN. `copy_gb_per_s` counts bytes
that are read and written. All are of the fastest of several repeats: limits, not medians.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[2]))  # to be run as a file
from research.launch.devices import DEVICES, Device
from tests.benchmarks.work import about, begin, parser, wait

Shape = tuple[int, int, int]  # M, I, O
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SPEND = 0.3  # s on each figure
LEAST = 0.01  # s that a repeat takes, at least: of as many calls as that needs
SHEETS = (  # part of a device's name -> its name in research/launch/devices.py; the first that is found counts
    ("H200", "h200"), ("H100 PCIe", "h100_pcie"), ("H100", "h100"), ("A100", "a100"), ("L40S", "l40s"), ("L4", "l4"),
    ("A40", "a40"), ("A10", "a10"), ("4090", "rtx4090"), ("3090", "rtx3090"), ("T4", "t4"), ("V100", "v100"),
)  # fmt: skip


def fastest(work: Callable[[], object], device: torch.device, spend: float = SPEND) -> float:
    """Seconds of a call, in the fastest of as many repeats as take `spend` seconds."""
    work()
    took, calls = timed(work, device, 1), 1
    while took < LEAST:
        calls *= 2
        took = timed(work, device, calls)
    best, end = took, time.perf_counter() + spend
    while time.perf_counter() < end:
        best = min(best, timed(work, device, calls))
    return best / calls


def timed(work: Callable[[], object], device: torch.device, calls: int) -> float:
    wait(device)
    before = time.perf_counter()
    for _ in range(calls):
        work()
    wait(device)
    return time.perf_counter() - before


def onednn(x: Tensor, weight: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")  # its only name
    return y


def libraries(device: torch.device) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        return {"torch": F.linear, "onednn": onednn}
    return {"torch": F.linear}


@torch.no_grad()
def products(
    shapes: Iterable[Shape], dtype: str, device: torch.device, spend: float = SPEND
) -> dict[str, dict[str, float]]:
    """GFLOP/s by shape and library."""
    found: dict[str, dict[str, float]] = {}
    for m, i, o in shapes:
        x = torch.randn(m, i, device=device).to(DTYPES[dtype])
        weight = torch.randn(o, i, device=device).to(DTYPES[dtype])
        found[f"{m}x{i}x{o}"] = {
            name: round(2e-9 * m * i * o / fastest(lambda: multiply(x, weight), device, spend), 1)  # noqa: B023
            for name, multiply in libraries(device).items()
        }
    return found


def best(found: dict[str, dict[str, float]]) -> float:
    """The highest of all rates."""
    return max(rate for rates in found.values() for rate in rates.values())


def model_shapes(rows: int, dim: int, ff_mult: int = 4) -> list[Shape]:
    """Linear layers of a Conformer block on `rows` frames."""
    return [(rows, dim, ff_mult * dim), (rows, ff_mult * dim, dim), (rows, dim, 3 * dim), (rows, dim, dim)]


def square(device: torch.device) -> list[Shape]:
    size = 2048 if device.type == "cpu" else 8192
    return [(size, size, size)]


def copying(device: torch.device, megabytes: int = 256) -> float:
    """GB/s of a copy that no cache holds."""
    source = torch.ones(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    return round(2e-9 * source.nbytes / fastest(lambda: target.copy_(source), device), 1)


def sheet(device: torch.device) -> Device:
    """What the data sheet says of a device, by the name that its driver gives it; nothing where none is known."""
    if device.type != "cuda":
        return Device()
    name = torch.cuda.get_device_name(device)
    return DEVICES[next((known for part, known in SHEETS if part in name), "cpu")]


def sheet_gflop_per_s(device: torch.device, dtype: str) -> float | None:
    rates = sheet(device)
    return 1e-9 * (rates.bf16 if dtype == "bf16" else rates.fp32) or None


def measure(device: torch.device) -> dict[str, Any]:
    shapes = [*square(device), *model_shapes(800, 256), *model_shapes(400, 512)]
    if device.type == "cuda":
        shapes = [*square(device), *model_shapes(16_000, 512), *model_shapes(16_000, 1024)]
    found: dict[str, Any] = {dtype: products(shapes, dtype, device) for dtype in DTYPES}
    tops = {f"{dtype}_gflop_per_s": best(found[dtype]) for dtype in DTYPES}
    sheets = {f"{dtype}_sheet_gflop_per_s": sheet_gflop_per_s(device, dtype) for dtype in DTYPES}
    return {"benchmark": "limits"} | tops | sheets | {"copy_gb_per_s": copying(device)} | found


if __name__ == "__main__":
    args = parser(__doc__).parse_args()
    ranks = begin(args.device, args.threads)
    print(json.dumps(measure(ranks.device) | about(ranks.device)))
