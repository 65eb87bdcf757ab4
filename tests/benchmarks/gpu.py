"""Measure all that is wanted of a GPU in one call; write gpu.jsonl line by line, so that a time limit loses nothing.

    python tests/benchmarks/gpu.py --out DIR
    python tests/benchmarks/gpu.py --out DIR --device cpu --tiny      # the same code, anywhere

The limits of the device; NEST's bf16 steps at XLarge and Large on clips of 20 s, relative and rotary positions, eager and
train.compile, each at the largest batch that fits of those that double; other methods at Large; attention alone; the mel.
`mfu_sheet` and `mfu_matmul` are shares of the data sheet's rate and of the best product measured here, `syncs` are waits
of the host for the device in one step, by the profiler's names. Nothing is begun after `--budget` seconds.

Needs this repository, torch, and the packages that a step imports, no network; README.md says how to bring them.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[2]))  # to be run as a file
from research.contracts import Batch, Seq
from research.engine.gangs import Ranks
from research.nn.attention import ATTENTION, Positions, lay_out
from tests.benchmarks import limits
from tests.benchmarks.flops import needed
from tests.benchmarks.work import Work, about, begin, compose, wait

WAITS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "Memcpy DtoH",
    "aten::item",
)
FIRST = 8  # rows that the search for a batch begins with
COMPILED, ROPE = "train.compile=true", "encoder.positions=rope"

Line = dict[str, Any]


class Scale(NamedTuple):
    """How large all of it is."""

    sizes: tuple[str, ...] = ("xlarge", "large")
    width: int = 1024  # of what is measured alone
    heads: int = 16
    squares: tuple[limits.Shape, ...] = ((8192, 8192, 8192),)
    seconds: float = 20.0
    first: int = FIRST
    most: int = 512  # rows
    steps: int = 10
    spend: float = limits.SPEND
    variants: tuple[tuple[str, ...], ...] = ((), (ROPE,), (COMPILED,), (ROPE, COMPILED))


TINY = Scale(("tiny",), 64, 4, (), seconds=1.0, first=1, most=2, steps=1, spend=0.01, variants=((), (ROPE,)))


class Bench:
    """The device, its measured rate, and where lines go."""

    def __init__(self, out: Path, ranks: Ranks, scale: Scale, budget: float) -> None:
        self.ranks, self.device, self.scale = ranks, ranks.device, scale
        self.end = time.monotonic() + budget
        self.file = out / "gpu.jsonl"
        self.about = about(ranks.device)
        self.rows: dict[tuple[str, ...], int] = {}  # what fits, by model
        self.top = 0.0  # GFLOP/s

    def tell(self, kind: str, told: Line) -> None:
        text = json.dumps({"benchmark": f"gpu {kind}"} | told | self.about)
        with self.file.open("a") as file:
            file.write(text + "\n")
        print(text, flush=True)

    def do(self, kind: str, name: str, job: Callable[[], Line]) -> None:
        """Do a job and tell of it; one that fails is told of too, and stops no other."""
        if time.monotonic() > self.end:
            self.tell(kind, {"name": name, "left_out": "no time"})
            return
        before = time.monotonic()
        try:
            told = job()
        except Exception as error:  # noqa: BLE001  whatever it is, the other jobs are wanted
            told = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
        self.tell(kind, {"name": name} | told | {"took_s": round(time.monotonic() - before, 1)})
        self.free()

    def free(self) -> None:
        gc.collect()
        if "torch._dynamo" in sys.modules:
            torch._dynamo.reset()  # its only name
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def limits(self) -> Line:
        rows, dim = self.scale.first * 250, self.scale.width
        shapes = [*self.scale.squares, *limits.model_shapes(rows, dim)]
        found: Line = {
            dtype: limits.products(shapes, dtype, self.device, self.scale.spend) for dtype in limits.DTYPES
        }
        self.top = limits.best(found["bf16"])
        sheets = {dtype: limits.sheet_gflop_per_s(self.device, dtype) for dtype in limits.DTYPES}
        return found | {"sheet_gflop_per_s": sheets, "copy_gb_per_s": limits.copying(self.device)}

    def step(self, size: str, words: list[str], method: str = "nest") -> Line:
        """Time steps at the largest batch that fits; a compiled step takes that of the eager one."""
        plain = [word for word in words if word != COMPILED]
        rows = self.rows.get((method, size, *plain)) or self.search(size, plain, method)
        self.rows[method, size, *plain] = rows
        while True:
            try:
                return self.timed(size, words, method, rows)
            except torch.cuda.OutOfMemoryError:
                if rows == 1:
                    raise
            rows //= 2
            self.free()

    def search(self, size: str, words: list[str], method: str) -> int:
        """Double the rows of a batch until they do not fit."""
        rows, work = self.scale.first, self.work(size, words, method)
        while rows * 2 <= self.scale.most:
            try:
                fed = work.feed(rows * 2, self.scale.seconds)
                for _ in range(2):
                    work.step(fed)
            except torch.cuda.OutOfMemoryError:
                break
            rows *= 2
        del work
        self.free()
        return rows

    def work(self, size: str, words: list[str], method: str) -> Work:
        return Work(compose(size, "bf16", words, method), self.ranks)

    def timed(self, size: str, words: list[str], method: str, rows: int) -> Line:
        scale, work = self.scale, self.work(size, words, method)
        fed = work.feed(rows, scale.seconds)
        before = time.perf_counter()
        for _ in range(3):
            work.step(fed)
        wait(self.device)
        warm = time.perf_counter() - before
        took = sorted(self.seconds(lambda: work.step(fed)) for _ in range(scale.steps))
        step = statistics.median(took)
        told = {"method": method, "size": size, "overrides": words, "batch": rows, "seconds": scale.seconds}
        told |= {"step_s": round(step, 5), "least_s": round(took[0], 5), "most_s": round(took[-1], 5)}
        told |= {"audio_s_per_s": round(rows * scale.seconds / step, 1), "warmup_s": round(warm, 1)}
        if self.device.type == "cuda":
            told["peak_device_mb"] = round(torch.cuda.max_memory_allocated(self.device) / 1e6)
        told |= self.rates(work, rows, step)
        return told | {"syncs": waits(work, fed)}

    def rates(self, work: Work, rows: int, step: float) -> Line:
        flops, how = needed(work.cfg, rows, self.scale.seconds)
        rate = 1e-9 * flops / step
        sheet = limits.sheet_gflop_per_s(self.device, "bf16")
        told = {"needed_gflop": round(1e-9 * flops, 1), "flops_by": how, "gflop_per_s": round(rate)}
        told["mfu_sheet"] = round(rate / sheet, 3) if sheet else None
        return told | {"mfu_matmul": round(rate / self.top, 3) if self.top else None}

    def seconds(self, call: Callable[[], object]) -> float:
        wait(self.device)
        before = time.perf_counter()
        call()
        wait(self.device)
        return time.perf_counter() - before

    def attention(self, positions: Positions, dim: int, heads: int) -> Line:
        """One attention module, forward and backward, under bf16 autocast."""
        rows, size = self.scale.first * 4, round(self.scale.seconds * 12.5)
        module = ATTENTION[positions](dim, heads, bias=True, dropout=0.1).to(self.device).train()
        x = torch.randn(rows, size, dim, device=self.device, requires_grad=True)  # (B, T, D)
        layout = lay_out(Seq(x, torch.full((rows,), size)), -1, -1, positions, heads)

        def both() -> None:
            with torch.autocast(self.device.type, torch.bfloat16):
                y = module(x, layout)
            y.float().sum().backward()

        took = limits.fastest(both, self.device, self.scale.spend)
        return {"rows": rows, "frames": size, "dim": dim, "heads": heads, "ms": round(1e3 * took, 3)}

    def mel(self) -> Line:
        rows = self.scale.first * 4
        work = self.work(self.scale.sizes[-1], [], "nest")
        batch: Batch = work.feed(rows, self.scale.seconds).batch
        took = limits.fastest(lambda: work.task.frontend(batch.audio), self.device, self.scale.spend)
        audio = round(rows * self.scale.seconds / took)
        return {
            "rows": rows,
            "seconds": self.scale.seconds,
            "ms": round(1e3 * took, 3),
            "audio_s_per_s": audio,
        }


def waits(work: Work, fed: Any) -> dict[str, int]:
    """Count what makes the host wait for the device in one step."""
    kinds = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=kinds[: 1 + torch.cuda.is_available()]) as record:
        work.step(fed)
    names = Counter(
        next((name for name in WAITS if event.name.startswith(name)), "") for event in record.events()
    )
    del names[""]
    return dict(names)


def jobs(bench: Bench) -> Iterator[tuple[str, str, Callable[[], Line]]]:
    """What is wanted, the most wanted first."""
    yield "limits", "limits", bench.limits
    for words in map(list, bench.scale.variants):
        for size in bench.scale.sizes:
            yield "step", " ".join([size, *words]), lambda size=size, words=words: bench.step(size, words)
    dim, heads = bench.scale.width, bench.scale.heads
    for positions in Positions:
        name = positions.value
        yield "attention", name, lambda positions=positions: bench.attention(positions, dim, heads)
    yield "mel", "mel", bench.mel
    for method in ("w2v_bert", "hubert", "data2vec"):
        yield "step", method, lambda method=method: bench.step(bench.scale.sizes[-1], [], method)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, metavar="DIR")
    made.add_argument("--device", default="cuda")
    made.add_argument("--tiny", action="store_true", help="models and clips that no GPU is needed for")
    made.add_argument("--budget", type=float, default=380.0, help="s after which nothing is begun")
    args = made.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        args.out, begin(args.device, torch.get_num_threads()), TINY if args.tiny else Scale(), args.budget
    )
    for kind, name, job in jobs(bench):
        bench.do(kind, name, job)


if __name__ == "__main__":
    main()
