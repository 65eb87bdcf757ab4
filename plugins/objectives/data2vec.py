from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from research.contracts import Batch, Loss, Objective, Parts, Seq
from research.errors import HarkError
from research.nn.functional import mask_ratio, select
from research.nn.linear import Linear
from research.nn.modules import MaskToken
from research.nn.regression import instance_norm, regress
from research.nn.teacher import Teacher
from research.registry import preset, register
from research.schedules import Ramp


@register("data2vec")
class Data2Vec(Objective):
    """Predict what a moving average of the encoder makes of the whole utterance, at masked frames (arXiv 2202.03555).

    A target is the mean of the teacher's top layers, each normalised over the utterance. Teacher and student share
    `embed`, which no target sends a gradient to, and the frontend.

    Unlike the paper's code, positions belong to what is averaged (`context`), and a layer is what its whole block
    gives, not the feed-forward before the last residual sum.
    """

    example: ClassVar[tuple[str, ...]] = (
        "encoder=fastconformer_tiny",
        "encoder.stride=4",
        "quantizer=none",
        "masking=span",
        "masking.length=4",
        "objective.layers=2",
        "objective.keep.steps=10",
    )

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        layers: int = 8  # of the teacher, from the top, whose mean is the target; all where there are fewer
        beta: float = 0.0  # errors beyond it count by their size, not their square; 0: all by their square
        keep: Ramp = field(  # share of itself that the teacher keeps at a step
            default_factory=lambda: Ramp(start=0.999, end=0.9999, steps=30_000)
        )

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        refuse(cfg)
        self.cfg, dim, depth = cfg, self.encoder.dim, self.encoder.depth
        self.top = range(max(0, depth - cfg.layers) + 1, depth + 1)
        self.teacher = Teacher(self.encoder)
        self.mask_token = MaskToken(dim)
        self.head = Linear(dim, dim)

    def forward(self, batch: Batch) -> Loss:
        clean, noisy = self.features(batch)  # (B, S, F)
        z = self.encoder.embed(noisy)  # (B, T, D)
        y = self.targets(z if noisy is clean else self.encoder.embed(clean))  # (B, T, D)
        mask = self.masking(z.lengths, z.x.size(1))  # (B, T)
        h = self.encoder.context(self.hide(z, mask)).last  # (B, T, D)
        loss = regress(self.head(select(h.x, mask)), select(y, mask), self.cfg.beta)
        return loss.noting(mask_ratio(mask, z.lengths))

    @torch.no_grad()
    def targets(self, z: Seq) -> Tensor:
        """What the teacher makes of whole utterances: (B, T, D) -> fp32 (B, T, D)."""
        with torch.autocast(z.x.device.type, enabled=False):
            layers = self.teacher.model.context(z.replace(z.x.float()), self.top).layers
            return torch.stack([instance_norm(layer, z.valid) for layer in layers]).mean(0)  # (B, T, D)

    def initialised(self, names: Collection[str]) -> None:
        self.teacher.begin(self.encoder, names)

    def on_step_end(self, step: int) -> None:
        self.teacher.follow(self.encoder, self.cfg.keep(step))


def refuse(cfg: Data2Vec.Config) -> None:
    """Raise HarkError for settings that cannot work."""
    if cfg.layers < 1 or cfg.beta < 0:
        raise HarkError(
            f"objective.layers={cfg.layers}, objective.beta={cfg.beta}: choose 1 layer or more, and 0 (all errors "
            "squared) or more"
        )
    if not (0 <= cfg.keep.start <= 1 and 0 <= cfg.keep.end <= 1 and cfg.keep.steps >= 1):
        raise HarkError(
            f"objective.keep: from {cfg.keep.start} to {cfg.keep.end} in {cfg.keep.steps} steps; choose shares from 0 "
            "to 1, and 1 step or more"
        )


preset("data2vec_base", Data2Vec.Config())
