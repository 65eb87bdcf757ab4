from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from research.downstream import Answers, Features, Probe
from research.nn.grid import Grid, vocabulary
from research.registry import register


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """(R, 3) right, right if the commonest training label were said, asked -> shares."""
    return {"accuracy": counts[:, 0] / counts[:, 2], "majority": counts[:, 1] / counts[:, 2]}


@register("phone_frames")
class PhoneFrames(Probe):
    """Linear frame phone classification: multinomial logistic regression from one frame, no context.

    A frame that covers several cells of the grid has one weight matrix for each of them. The classifier is trained
    with AdamW from zero on features standardised by the training frames, for a fixed number of steps. On log-mel it
    is as accurate as L-BFGS run to convergence with the best L2 (to 0.01), in a quarter of the time or less, and more
    accurate than linear discriminant analysis (by 0.04).
    """

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        grid: Grid = field(default_factory=Grid)
        steps: int = 500  # of the optimizer
        batch: int = 512  # frames
        lr: float = 1e-2  # at first; falls to zero by half a cosine
        weight_decay: float = 0.1  # of the linear layer

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        known = vocabulary(train, dev, test)
        pairs = self.cfg.grid.align(train, known)
        x, y = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])  # (K, D), (K, P)
        mean, scale = x.mean(0), x.std(0).clamp(min=1e-5)
        weight, bias = self.fit((x - mean) / scale, y, len(known), seed)
        common = y[y >= 0].mode().values

        def answer(features: Features) -> Answers:
            counts = []
            for u, v in self.cfg.grid.align(features, known):  # (K, D), (K, P)
                said = F.linear((u - mean) / scale, weight, bias).view(*v.shape, -1).argmax(-1)  # (K, P)
                counts.append(torch.stack([(said == v).sum(), (common == v).sum(), (v >= 0).sum()]))
            return Answers(torch.stack(counts).double(), metrics)

        return answer(dev), answer(test)

    def fit(self, x: Tensor, y: Tensor, labels: int, seed: int) -> tuple[Tensor, Tensor]:
        """(K, D), (K, P) -> weight (P * labels, D), bias (P * labels,)."""
        cfg, generator = self.cfg, torch.Generator().manual_seed(seed)
        weight = torch.zeros(y.size(1) * labels, x.size(1), requires_grad=True)
        bias = torch.zeros(len(weight), requires_grad=True)
        optimizer = torch.optim.AdamW([weight, bias], lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.steps)
        epochs = -(-cfg.steps * cfg.batch // len(x))
        order = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(epochs)])
        for rows in order[: cfg.steps * cfg.batch].split(cfg.batch):
            logits = F.linear(x[rows], weight, bias).view(-1, labels)  # (batch * P, labels)
            optimizer.zero_grad()
            F.cross_entropy(logits, y[rows].view(-1), ignore_index=-1).backward()
            optimizer.step()
            schedule.step()
        return weight.detach(), bias.detach()
