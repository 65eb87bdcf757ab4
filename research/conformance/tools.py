"""Instruments of the rules: models that are made deterministic, or watched."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from research.config import Config
from research.conformance.rules import Broken
from research.contracts import Batch, Masking, Objective, Stat
from research.engine.gangs import Ranks, start
from research.engine.parallel import place, wrap
from research.engine.sharding import full
from research.nn import shapes  # noqa: F401  registers them
from research.registry import build
from research.training.data import Fed
from research.training.optimizer import adamw
from research.training.stats import StatBag
from research.training.step import Student, train_step


class Fixed(Masking):
    """Masks the middle half of every row: nothing but the row's own length decides."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        self.sizes.append(size)
        time = torch.arange(size)
        return (time >= lengths[:, None] // 4) & (time < 3 * lengths[:, None] // 4)  # (B, size)


class Blank(Masking):
    """Masks nothing."""

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        return torch.zeros(len(lengths), size, dtype=torch.bool)


class Still(TorchDispatchMode):
    """Every random number is the same one, so that a batch and its parts draw alike."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("rand", "randn", "rand_like", "randn_like", "normal_", "uniform_", "exponential_"):
            return out.fill_(0.5)
        if name in ("bernoulli", "bernoulli_", "keep"):
            return out.fill_(1)
        if name in ("randint", "random_"):
            return out.fill_(args[0] if "low" in func._overloadname else 0)  # noqa: SLF001  torch's only name for it
        return torch.arange(len(out), out=out) if name == "randperm" else out


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copy everything that a checkpoint would hold."""
    return {key: full(value.detach()).clone() for key, value in module.state_dict().items()}


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Keys that are not in both, or not bit-identical."""
    shared = before.keys() & after.keys()
    changed = {key for key in shared if not identical(before[key], after[key])}
    return sorted(changed | (before.keys() ^ after.keys()))


def identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def close(a: Tensor, b: Tensor, scale: float = 0.0) -> bool:
    """Equal but for rounding: relative to the largest element, and to a hundredth of `scale`."""
    if a.shape != b.shape:
        return False
    if a.numel() == 0:
        return True
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max()) <= 1e-4 * max(float(b.abs().max()), 1e-2 * scale, 1e-12)


def gradients(model: nn.Module) -> dict[str, Tensor | None]:
    """Gradients of the trained parameters, by name."""
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def student(model: Objective, cfg: Config, ranks: Ranks | None = None) -> Student:
    """What `hark train` would step, on the CPU unless `ranks` are elsewhere."""
    ranks = ranks or start("cpu")
    model = place(model, ranks, cfg.train.parallel)
    augment = build(cfg.augmentation).to(ranks.device)
    return Student(model, wrap(model, ranks), augment, adamw(model, cfg.optimizer), ranks, cfg)


def train(it: Student, batches: Sequence[Batch], first: int = 0) -> StatBag:
    """Take real optimizer steps from number `first`, each over its share of `train.batches`."""
    it.task.train()
    bag, fed = StatBag(it.ranks.device), iter([Fed(batch, 1.0, Stat(torch.zeros(()))) for batch in batches])
    for step in range(first, first + len(batches) // it.cfg.train.share(it.ranks.size)):
        if not train_step(it, fed, step, bag, stop=False).sound:
            raise Broken(
                f"the loss or a gradient of step {step + 1} is not finite: guard divisions, roots and logarithms"
            )
    return bag
