from dataclasses import dataclass

import torch
from torch import Tensor

from plugins.objectives.mel_contrast import MelObjective
from research.contracts import Loss, Parts, Seq, Stat
from research.errors import HarkError
from research.nn.decoder import Decoder, Readout
from research.nn.functional import histogram, masked_ce, penalize, perplexity
from research.registry import register


@register("mel_w2v_bert")
class MelW2vBERT(MelObjective):
    """Targets are quantized, and their ids are predicted from the last layer: NeMo's form of w2v-BERT.

    A class is what the books say together, as in NeMo: there are codes ** books of them.
    """

    example = (
        "encoder=fastconformer_tiny",
        "encoder.stride=4",
        "masking.length=16",
        "quantizer=gumbel",
        "quantizer.codes=8",
        "quantizer.dim=16",
        "objective.negatives=10",
    )
    place: Tensor  # (G,) what a code of each book counts

    @dataclass(kw_only=True)
    class Config(MelObjective.Config):
        layer: int | None = None  # whose output is compared; null: the last
        diversity: float = 0.1  # weight of the quantizer's penalty
        prediction: float = 0.5  # weight of the masked prediction

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts, layer=cfg.layer)
        q = self.quantizer = parts.quantizer(self.frontend.dim * self.piece)
        if q.dim < 1:
            raise HarkError(
                "this objective compares vectors of codes, this quantizer has none; type quantizer=gumbel"
            )
        width = cfg.closing.dim or self.encoder.dim
        tapped = width if self.layer == self.encoder.depth else self.encoder.dim
        classes, up = q.codes**q.books, cfg.upsample
        if classes > 1_000_000:
            raise HarkError(
                f"quantizer.codes={q.codes}: {q.books} books of them are {classes} classes; choose fewer"
            )
        linear = Readout(width, classes)
        self.heads["contrast"] = Decoder(tapped, cfg.hidden, q.dim, up)
        self.heads["predict"] = linear if up == 1 else Decoder(width, cfg.hidden, classes, up)
        self.register_buffer("place", q.codes ** torch.arange(q.books), persistent=False)

    def compare(self, x: Tensor, tap: Seq, last: Seq, hit: Tensor) -> Loss:
        codes = self.quantizer(x)  # ids (M, G), vectors (M, C)
        loss = self.contrast(self.heads["contrast"](tap, hit), codes.vectors, hit, codes.chosen)
        logits = self.heads["predict"](last, hit)[:, None]  # (M, 1, V ** G)
        classes = (codes.ids * self.place).sum(-1, keepdim=True)  # (M, 1)
        loss = loss.plus(masked_ce(logits, classes), self.cfg.prediction)
        used = Stat(histogram(codes.ids, self.quantizer.codes), finish=perplexity)
        return penalize(loss.noting({"code_ppl": used}), codes, self.cfg.diversity)
