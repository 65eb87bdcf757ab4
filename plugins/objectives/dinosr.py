from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat
from research.errors import HarkError
from research.nn.functional import histogram, mask_ratio, masked_ce, perplexity, select
from research.nn.modules import CodeHead, MaskToken
from research.nn.regression import instance_norm
from research.nn.teacher import Teacher
from research.registry import preset, register
from research.schedules import Ramp


class ClusterPrediction(Objective):
    """At masked frames, predict the clusters of what a moving average of the encoder makes of the whole utterance.

    Each of the teacher's top layers is normalised over the utterance and has a codebook and a head of its own.
    Subclasses say what the heads read, and how the teacher follows.
    """

    example: ClassVar[tuple[str, ...]] = (
        "encoder=fastconformer_tiny", "encoder.stride=4", "quantizer=ema", "quantizer.codes=16",
        "masking=span", "masking.length=4", "objective.layers=2",
    )  # fmt: skip

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        layers: int = 8  # of the teacher, from the top; all where there are fewer
        freeze: int = 200_000  # step at which a trained frontend stops

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        if cfg.layers < 1:
            raise HarkError(f"objective.layers={cfg.layers}: choose 1 layer or more")
        self.cfg, dim, depth = cfg, self.encoder.dim, self.encoder.depth
        self.top = range(max(0, depth - cfg.layers) + 1, depth + 1)
        quantizers = [parts.quantizer(dim) for _ in self.top]
        if any(p.requires_grad for q in quantizers for p in q.parameters()):
            raise HarkError("this objective sends no gradient to its quantizers; type quantizer=ema")
        self.quantizers = nn.ModuleList(quantizers)
        self.heads = nn.ModuleList(CodeHead(dim, q.books, q.codes) for q in quantizers)
        self.books, self.codes = quantizers[0].books, quantizers[0].codes
        self.teacher = Teacher(self.encoder)
        self.mask_token = MaskToken(dim)

    def forward(self, batch: Batch) -> Loss:
        clean, noisy = self.features(batch)  # (B, S, F)
        x = self.encoder.embed(noisy)  # (B, T, D)
        mask = self.masking(x.lengths, x.x.size(1))  # (B, T)
        ids = self.targets(clean, mask)  # (M, K * G)
        read = self.student(self.hide(x, mask))  # K times (B, T, D)
        logits = [head(select(h, mask)) for head, h in zip(self.heads, read, strict=True)]  # each (M, G, V)
        loss = masked_ce(torch.cat(logits, 1), ids)
        return loss.noting(mask_ratio(mask, x.lengths) | self.used(ids))

    @torch.no_grad()
    def targets(self, clean: Seq, mask: Tensor) -> Tensor:
        """The clusters of the teacher's masked frames, layer by layer: (B, S, F), (B, T) -> (M, K * G)."""
        with torch.autocast(clean.x.device.type, enabled=False):
            heard = self.teacher.model(clean.replace(clean.x.float()), self.top)
            valid = heard.last.valid
            frames = [select(instance_norm(layer, valid), mask) for layer in heard.layers]  # each (M, D)
            return torch.cat([q(y).ids for q, y in zip(self.quantizers, frames, strict=True)], 1)

    def student(self, x: Seq) -> list[Tensor]:
        """What each head reads: (B, T, D) -> K times (B, T, D)."""
        raise NotImplementedError

    def used(self, ids: Tensor) -> dict[str, Stat]:
        """Codes in use, layer by layer: (M, K * G)."""
        layers = zip(self.top, ids.split(self.books, 1), strict=True)
        return {f"layer{k}_ppl": Stat(histogram(own, self.codes), finish=perplexity) for k, own in layers}

    def initialised(self, names: Collection[str]) -> None:
        self.teacher.begin(self.encoder, names)

    def param_groups(self) -> list[dict[str, Any]]:
        """The frontend apart: it stops at `freeze`."""
        front = {id(p) for p in self.frontend.parameters()}
        groups, before = [], lambda step: float(step < self.cfg.freeze)
        for group in super().param_groups():
            stops = [p for p in group["params"] if id(p) in front]
            stays = [p for p in group["params"] if id(p) not in front]
            groups += [group | {"params": stays}, group | {"params": stops, "lr_scale": before}]
        return groups


@register("dinosr")
class DinoSR(ClusterPrediction):
    """DinoSR (arXiv 2305.10005): the student's last layer predicts the clusters of all of the teacher's top layers.

    The teacher stops with the frontend. Unlike the paper's code, all of the encoder is averaged, what comes before its
    blocks too, so that only the frontend has to be frozen; clusters go on following the teacher that has stopped.
    """

    @dataclass(kw_only=True)
    class Config(ClusterPrediction.Config):
        keep: Ramp = field(  # share of itself that the teacher keeps at a step
            default_factory=lambda: Ramp(start=0.999, end=0.9999, steps=30_000)
        )

    cfg: Config

    def student(self, x: Seq) -> list[Tensor]:
        return [self.encoder.context(x).last.x] * len(self.top)

    def on_step_end(self, step: int) -> None:
        if step <= self.cfg.freeze:
            self.teacher.follow(self.encoder, self.cfg.keep(step))


preset("dinosr_base", DinoSR.Config())
