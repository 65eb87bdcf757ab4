"""What benchmarks of training steps share: models by method and size, batches of noise, and what a line says of itself."""

import platform
import resource
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from typing import Any

import torch

from research import runs
from research.compose import compose_config
from research.config import Config
from research.contracts import Stat
from research.engine.gangs import Ranks, start
from research.launch.trial import full_batch
from research.registry import build
from research.training.data import Fed
from research.training.given import stand_in
from research.training.loop import objective_of
from research.training.memory import keep_freed_memory
from research.training.optimizer import adamw
from research.training.stats import StatBag
from research.training.step import Student, train_step

SIZES = {
    "tiny": ["encoder=fastconformer_tiny"],
    "small": ["encoder=fastconformer_medium", "encoder.depth=4"],
    "medium": ["encoder=fastconformer_medium"],
    "large": ["encoder=fastconformer_large"],
    "xlarge": ["encoder=fastconformer_xlarge"],
}
SPANS = ["masking=span", "masking.prob=0.65", "masking.length=5"]  # 400 ms at 80 ms a frame
METHODS = {
    "nest": ["objective=nest"],
    "w2v_bert": ["experiment=fastconformer_w2v_bert"],
    "hubert": ["objective=hubert", "quantizer=none", *SPANS],
    "data2vec": ["objective=data2vec", "quantizer=none", *SPANS],
}


def parser(text: str | None) -> ArgumentParser:
    """Read the flags that all of these benchmarks have."""
    made = ArgumentParser(description=text, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("--device", default="cpu")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    return made


def compose(size: str, dtype: str, overrides: list[str], method: str = "nest") -> Config:
    """Compose a method of METHODS, or any other objective, at a size; later overrides win."""
    words = METHODS.get(method, [f"objective={method}"])
    return compose_config([*words, *SIZES[size], f"train.precision={dtype}", *overrides]).config


class Work:
    """Training steps of one model, as `hark train` does them."""

    def __init__(self, cfg: Config, ranks: Ranks) -> None:
        self.cfg, self.ranks = cfg, ranks
        task = objective_of(cfg).to(ranks.device).train()
        augment = build(cfg.augmentation).to(ranks.device)
        self.task: Any = task
        self.student = Student(task, task, augment, adamw(task, cfg.optimizer), ranks, cfg)
        self.bag, self.done = StatBag(ranks.device), 0

    def feed(self, rows: int, seconds: float) -> Fed:
        """Give noise without padding that is on the device already: (rows, seconds * rate)."""
        batch = stand_in(full_batch(self.cfg, rows, seconds), self.task)
        return Fed(batch.to(self.ranks.device), rows * seconds, Stat(torch.zeros(())))

    def step(self, fed: Fed) -> None:
        train_step(self.student, repeat(fed), self.done, self.bag, stop=False)
        self.done += 1


def begin(device: str, threads: int) -> Ranks:
    """Set up the process as `hark train` does."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    return start(device)


def peak_rss_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def about(device: torch.device) -> dict[str, Any]:
    """Say where figures come from."""
    code = runs.code_version()
    return {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "fairseq2": installed("fairseq2"),
        "python": platform.python_version(),
        "commit": code["commit"][:12] + ("+" if code["diff"] else ""),  # +: and changes that are in no commit
    }


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
