from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Batch, Codes, Encoded, Loss, Objective, Parts, Seq, Stat
from research.errors import HarkError
from research.nn.contrast import contrast
from research.nn.functional import feature_penalty, histogram, mask_ratio, noise, penalize, perplexity, select
from research.nn.linear import Linear
from research.nn.mel import standardize
from research.nn.modules import MaskToken
from research.registry import register


class Fill(Enum):
    """What the encoder reads at masked frames."""

    learned = "learned"  # one trained vector
    random = "random"  # a fresh random vector for each frame


class TargetNorm(Enum):
    """How latents are normalised before they are quantized, without trained parameters."""

    layer = "layer"  # each frame over its dimensions
    instance = "instance"  # each dimension over the utterance: what all frames share is no target


@register("wav2vec2")
class Wav2Vec2(Objective):
    """Tell the quantized latent of a masked frame from others of the utterance (arXiv 2006.11477).

    Latents are what `encoder.embed` gives: of the clean signal for the targets, normalised for the quantizer without
    trained parameters. Only masked frames are quantized. With `quantizer=gumbel` gradients reach them too.
    """

    example = (
        "encoder=fastconformer_tiny",
        "encoder.stride=4",
        "quantizer=gumbel",
        "quantizer.codes=8",
        "quantizer.dim=16",
        "masking=span",
        "masking.length=4",
        "objective.dim=16",
        "objective.negatives=10",
    )

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        dim: int = 256  # in which context and target are compared
        negatives: int = 100  # targets of the same utterance to tell it from
        temperature: float = 0.1  # that cosines are divided by
        diversity: float = 0.1  # weight of the quantizer's penalty
        target_norm: TargetNorm = TargetNorm.layer
        target_grad: float = 1.0  # factor on the gradient that targets send back into `embed`
        fill: Fill = Fill.learned
        feature_penalty: float = 0.0  # weight of the mean square of a frontend that is trained

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        self.cfg, self.layer = cfg, self.encoder.depth  # whose output is compared
        self.quantizer = parts.quantizer(self.encoder.dim)
        if self.quantizer.dim < 1:
            raise HarkError(
                "this objective compares vectors of codes, this quantizer has none; type quantizer=gumbel"
            )
        self.project_context = Linear(self.encoder.dim, cfg.dim)
        self.project_target = Linear(self.quantizer.dim, cfg.dim)
        if cfg.fill is Fill.learned:
            self.mask_token = MaskToken(self.encoder.dim)

    def forward(self, batch: Batch) -> Loss:
        return self.compare(batch)[0]

    def compare(self, batch: Batch) -> tuple[Loss, Encoded, Codes, Tensor]:
        """Give the contrastive loss, and what it was made of."""
        clean, noisy = self.features(batch)  # (B, S, F)
        z = self.encoder.embed(noisy)  # (B, T, D)
        target = z if noisy is clean else self.encoder.embed(clean)  # (B, T, D)
        mask = self.masking(z.lengths, z.x.size(1))  # (B, T)
        h = self.encoder.context(self.hide(z, mask), (self.layer,))
        latents = select(self.normalize(target), mask)  # (M, D)
        latents = torch.lerp(latents.detach(), latents, self.cfg.target_grad)
        codes: Codes = self.quantizer(latents)  # ids (M, G), vectors (M, C)
        assert codes.vectors is not None
        c = self.project_context(select(h.layers[0], mask))  # (M, P)
        y = self.project_target(codes.vectors)  # (M, P)
        k, t = self.cfg.negatives, self.cfg.temperature
        loss = contrast(c, y, mask.sum(1), negatives=k, temperature=t, ids=codes.chosen)
        used = Stat(histogram(codes.ids, self.quantizer.codes), finish=perplexity)
        loss = loss.noting({"code_ppl": used} | mask_ratio(mask, z.lengths))
        return self.regularize(loss, codes, clean, mask), h, codes, mask

    def regularize(self, loss: Loss, codes: Codes, feats: Seq, mask: Tensor) -> Loss:
        """Add the penalties of the quantizer's codes, and of the features (B, S, F) under the mask (B, T)."""
        loss = penalize(loss, codes, self.cfg.diversity)
        if self.cfg.feature_penalty > 0:
            loss = feature_penalty(loss, feats, self.encoder.stride, mask, self.cfg.feature_penalty)
        return loss

    def normalize(self, z: Seq) -> Tensor:  # (B, T, D) -> fp32 (B, T, D)
        x = z.x.float()
        match self.cfg.target_norm:
            case TargetNorm.layer:
                return F.layer_norm(x, x.shape[2:])
            case TargetNorm.instance:
                return standardize(x, z.valid, (1,))

    def fill(self, x: Seq, mask: Tensor) -> Seq:  # (B, T, D), (B, T)
        if self.cfg.fill is Fill.learned:
            return super().fill(x, mask)
        return noise(x, mask, 0.1)
