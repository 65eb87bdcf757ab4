"""A small classifier on frozen features: how probes learn one, and choose its learning rate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M")


@dataclass(kw_only=True)
class Training:
    """AdamW for a fixed number of steps, the rate falling to zero by half a cosine."""

    lrs: list[float] = field(default_factory=lambda: [3e-3, 1e-2, 3e-2, 1e-1, 3e-1])  # at first; dev chooses
    steps: int = 300  # of the optimizer
    batch: int = 512  # inputs
    weight_decay: float = 0.1  # of all weights
    hidden: int = 0  # width of one hidden layer; 0: linear


def standard(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale (...) by which the training features (K, ...) standardise all others."""
    return x.mean(0), x.std(0).clamp(min=1e-5)


class Classifier(nn.Module):
    """Inputs (K, D) -> scores (K, P, labels) of each of P positions; linear, or with one hidden layer.

    Inputs of several layers (K, L, D) are summed with learned weights (softmax, equal at first) that all positions
    share. Features are standardised by the inputs that it is made with, layer by layer.
    """

    mean: Tensor  # (D,) or (L, D)
    scale: Tensor  # (D,) or (L, D)

    def __init__(self, x: Tensor, positions: int, labels: int, hidden: int = 0) -> None:
        super().__init__()
        self.positions = positions
        mean, scale = standard(x)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.mix = nn.Parameter(torch.zeros(x.size(1) if x.ndim > 2 else 0))  # (L,)
        self.hidden = nn.Sequential(nn.Linear(x.size(-1), hidden), nn.ReLU()) if hidden else nn.Identity()
        self.out = nn.Linear(hidden or x.size(-1), positions * labels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def weights(self) -> list[float]:
        """Of each layer, where there are several; they sum to 1."""
        return self.mix.softmax(0).tolist()

    def standardise(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.scale

    def forward(self, x: Tensor) -> Tensor:  # standardised (K, D) or (K, L, D) -> (K, P, labels)
        if len(self.mix):
            x = torch.einsum("kld,l->kd", x, self.mix.softmax(0))
        scores: Tensor = self.out(self.hidden(x))
        return scores.unflatten(-1, (self.positions, -1))

    @torch.no_grad()
    def answer(self, x: Tensor) -> Tensor:  # (K, D) or (K, L, D) -> (K, P)
        return self(self.standardise(x)).argmax(-1)


def fit(x: Tensor, y: Tensor, labels: int, training: Training, *, lr: float, seed: int) -> Classifier:
    """Inputs (K, D) or (K, L, D), the labels (K, P) that each has to give, -1 for none -> a trained classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Classifier(x, y.size(1), labels, training.hidden)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=training.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    epochs = -(-training.steps * training.batch // len(x))
    order = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(epochs)])
    x = model.standardise(x)
    for rows in order[: training.steps * training.batch].split(training.batch):
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]).flatten(0, 1), y[rows].flatten(), ignore_index=-1).backward()
        optimizer.step()
        schedule.step()
    return model


def search(
    x: Tensor, y: Tensor, labels: int, training: Training, *, seed: int, score: Callable[[Classifier], float]
) -> tuple[float, Classifier]:
    """Choose the learning rate by trainings of a fifth of the steps, then take all of them with it."""
    short = replace(training, steps=-(-training.steps // 5))
    lr, _ = best(training.lrs, lambda lr: fit(x, y, labels, short, lr=lr, seed=seed), score)
    return lr, fit(x, y, labels, training, lr=lr, seed=seed)


def best(lrs: Sequence[float], fitted: Callable[[float], M], score: Callable[[M], float]) -> tuple[float, M]:
    """Give the learning rate whose model scores highest, the first of equals, and that model."""
    models = [(lr, fitted(lr)) for lr in lrs]
    return max(models, key=lambda pair: score(pair[1]))
