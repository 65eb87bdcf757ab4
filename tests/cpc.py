"""Contrastive predictive coding (arXiv 1807.03748), right and wrong: nothing is masked, what is embedded is predicted."""

from dataclasses import dataclass

import torch
from torch import nn

from research.contracts import Objective, Use
from research.nn.contrast import contrast
from research.nn.functional import select
from research.nn.future import Future, heard
from research.registry import register


@register("cpc")
class CPC(Objective):
    example = ("encoder=fastconformer_tiny_causal",)
    masks = Use.never
    shift = 1

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        pass

    def __init__(self, cfg, *, parts):
        super().__init__(parts)
        self.ahead = heard(self.encoder, "cpc")
        self.said, self.to_come = (nn.Linear(self.encoder.dim, 16) for _ in range(2))

    def forward(self, batch):
        _, noisy = self.features(batch)
        z = self.encoder.embed(noisy)
        h = self.encoder.context(z).last
        future = Future.of(h.lengths, h.x.size(1), self.ahead + self.shift, 1)
        whole = torch.arange(h.x.size(1)) < h.lengths[:, None]
        y = future.targets(select(self.to_come(z.x), whole))
        said = self.said(select(h.x, future.asking))
        return contrast(said, y, future.asking.sum(1), negatives=5, temperature=0.1)


@register("cpc_now")
class Now(CPC):
    """Predicts the frame that it has just heard."""

    shift = 0

    @dataclass(kw_only=True)
    class Config(CPC.Config):
        pass
