from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Batch, Loss, Objective, Parts, Seq
from research.errors import HarkError
from research.nn.functional import feature_penalty, mask_ratio, select
from research.nn.labels import aligned
from research.nn.modules import CosineHead, MaskToken
from research.registry import preset, register


class MaskedPrediction(Objective):
    """Predict what is hidden behind masked frames of what `encoder.embed` gives. Subclasses say what that is.

    With `alpha` below 1 unmasked frames count too, and are computed: alpha L_m + (1 - alpha) L_u (arXiv 2106.07447,
    eq. 2), each a sum over its frames.
    """

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        dim: int = 256  # in which frames and codes are compared
        temperature: float = 0.1  # that cosines are divided by
        alpha: float = 1.0  # weight of masked frames; of all others 1 - alpha
        feature_penalty: float = 0.0  # weight of the mean square of a frontend that is trained

    cfg: Config
    head: CosineHead

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        if not 0 < cfg.alpha <= 1:
            raise HarkError(f"objective.alpha={cfg.alpha:g}: a weight is above 0 and at most 1")
        self.cfg = cfg
        self.mask_token = MaskToken(self.encoder.dim)

    def make_head(self, books: int, codes: int) -> CosineHead:
        cfg = self.cfg
        return CosineHead(self.encoder.dim, books, codes, width=cfg.dim, temperature=cfg.temperature)

    def forward(self, batch: Batch) -> Loss:
        alpha, feats = self.cfg.alpha, self.frontend(batch.noisy)  # (B, S, F)
        z = self.encoder.embed(feats)  # (B, T, D)
        mask = self.masking(z.lengths, z.x.size(1))  # (B, T)
        h = self.encoder.context(self.hide(z, mask)).last  # (B, T, D)
        y = self.targets(batch, z)  # (B, T, C)
        there = torch.arange(z.x.size(1)) < y.lengths[:, None]  # (B, T)
        loss = self.predict(h, y, there & mask)
        if alpha < 1:
            rest = self.predict(h, y, there & ~mask)
            total, stats = alpha * loss.total + (1 - alpha) * rest.total, {"acc_unmasked": rest.stats["acc"]}
            loss = Loss(total, loss.count + rest.count, loss.stats | stats)
        if self.cfg.feature_penalty > 0:
            counted = there if alpha < 1 else there & mask
            loss = feature_penalty(loss, feats, self.encoder.stride, counted, self.cfg.feature_penalty)
        return loss.noting(mask_ratio(mask, z.lengths))

    def predict(self, h: Seq, y: Seq, hit: Tensor) -> Loss:  # (B, T, D), (B, T, C), (B, T)
        return self.head.cross_entropy(select(h.x, hit), self.ids(select(y.x, hit)))

    def targets(self, batch: Batch, z: Seq) -> Seq:
        """What `ids` makes labels of, for the frames of z (B, T, D) that have one: (B, T, C)."""
        raise NotImplementedError

    def ids(self, y: Tensor) -> Tensor:  # (M, C) -> (M, G)
        raise NotImplementedError


@register("hubert")
class HuBERT(MaskedPrediction):
    """Labels of frames that somebody clustered before, predicted at masked frames (arXiv 2106.07447, section II).

    They come with the data: `hark extract --kmeans` writes them, of MFCCs first and then of a layer of the run before.
    Where the paper's first iteration takes every second label of 10 ms, labels and frames are equally far apart here.
    One clustering, where the paper tries several at a time too.
    """

    wants = ("labels",)
    example = ("encoder=fastconformer_tiny", "quantizer=none", "masking.length=4", "objective.codes=8")

    @dataclass(kw_only=True)
    class Config(MaskedPrediction.Config):
        codes: int = 500  # labels are below

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        self.classes = cfg.codes
        self.head = self.make_head(1, cfg.codes)

    def targets(self, batch: Batch, z: Seq) -> Seq:
        return aligned(batch, z.lengths, z.x.size(1))

    def ids(self, y: Tensor) -> Tensor:
        return y


preset("hubert_base", HuBERT.Config(feature_penalty=10.0))
preset("hubert_large", HuBERT.Config(dim=768, feature_penalty=10.0))
