"""Stats of batches -> numbers to log: summed over steps on the device, over ranks only when they are logged."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from research.contracts import Stat


class StatBag:
    """A window of stats by name. Adding never waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.totals: dict[str, Tensor] = {}
        self.weights: dict[str, float] = {}
        self.finish: dict[str, Callable[[Tensor], Tensor]] = {}

    def add(self, stats: dict[str, Stat]) -> None:
        for name, stat in stats.items():
            total = stat.total.detach().to(self.device, non_blocking=True)
            if name in self.totals:
                self.totals[name] += total
            else:
                self.totals[name] = total.to(torch.float64, copy=True)
            self.weights[name] = self.weights.get(name, 0.0) + stat.weight
            self.finish[name] = stat.finish

    def pop(self, all_sum: Callable[[Tensor], None]) -> dict[str, float]:
        """Finish and forget: `all_sum` adds a tensor over the ranks in place. One collective in all.

        A rank whose batches were all lost has no names: it joins with what the others have only if it logged the
        same stats before; objectives therefore return every stat from every batch, empty ones too.
        """
        names = sorted(self.totals)
        if not names:
            return {}
        sizes = [self.totals[name].numel() for name in names]
        weights = torch.tensor([self.weights[name] for name in names], dtype=torch.float64)
        flat = torch.cat([*(self.totals[name].flatten() for name in names), weights.to(self.device)])
        all_sum(flat)
        flat = flat.cpu()
        values = {}
        for k, (name, part) in enumerate(zip(names, flat[: -len(names)].split(sizes), strict=True)):
            weight = flat[-len(names) + k]
            mean = part.view(self.totals[name].shape) / weight.clamp(min=1e-12)
            values[name] = float(self.finish[name](mean))
        self.totals.clear()
        self.weights.clear()
        return values


class Window:
    """What was seen since the last time that numbers were logged."""

    def __init__(self, bag: StatBag) -> None:
        self.bag = bag
        self.start()

    def start(self) -> None:
        self.mark, self.wall, self.audio = time.monotonic(), 0.0, 0.0

    def pause(self) -> None:
        """Leave out the time since the last step."""
        self.mark = time.monotonic()

    def spend(self, audio: float) -> float:
        """Add a step's audio; give the wall seconds since the step before."""
        now = time.monotonic()
        passed, self.mark = now - self.mark, now
        self.wall += passed
        self.audio += audio
        return passed

    def speed(self) -> float:
        return self.audio / max(self.wall, 1e-9)
