from dataclasses import dataclass

import torch

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat
from research.nn.functional import select, stack
from research.nn.modules import CodeHead, MaskToken
from research.registry import register


@register("starter")
class Starter(Objective):
    """Say here what is learned, and from which paper (arXiv id). As it is: codes of masked frames of the signal."""

    example = (
        "encoder=fastconformer_tiny",
        "quantizer.codes=64",
    )  # what makes a small run: `hark check` uses it

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        threshold: float = (
            0.8  # an encoder frame is a target when more than this share of its input is masked
        )

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        self.cfg = cfg
        self.quantizer = parts.quantizer(self.frontend.dim * self.encoder.stride)
        self.head = CodeHead(self.encoder.dim, self.quantizer.books, self.quantizer.codes)
        self.mask_token = MaskToken(self.frontend.dim)

    def forward(self, batch: Batch) -> Loss:
        r = self.encoder.stride
        clean, noisy = self.features(batch)  # (B, S, F)
        mask = self.masking(clean.lengths, clean.x.size(1))  # (B, S)
        h = self.encoder(self.hide(noisy, mask)).last  # (B, T, D)
        hit = stack(mask[..., None].float(), r).mean(-1) > self.cfg.threshold  # (B, T)
        ids = self.targets(clean, hit)  # (M, G)
        loss = self.head.cross_entropy(select(h.x, hit), ids)  # a sum over the M targets, with its count
        return loss.noting({"mask_ratio": Stat(torch.tensor(float(mask.sum())), float(clean.lengths.sum()))})

    def targets(self, clean: Seq, hit: torch.Tensor) -> torch.Tensor:  # (B, S, F), (B, T) -> (M, G)
        ids: torch.Tensor = self.quantizer(select(stack(clean.x, self.encoder.stride), hit)).ids
        return ids
