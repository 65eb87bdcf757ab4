from dataclasses import dataclass

from plugins.objectives.wav2vec2 import Fill, Wav2Vec2
from research.contracts import Batch, Loss, Parts
from research.errors import HarkError
from research.nn.functional import select
from research.nn.modules import CodeHead
from research.registry import register


@register("w2v_bert")
class W2vBERT(Wav2Vec2):
    """Compare at a middle layer, predict the quantizer's ids at the last (arXiv 2108.06209, section 3)."""

    @dataclass(kw_only=True)
    class Config(Wav2Vec2.Config):
        layer: int | None = None  # whose output is compared; null: half-way up
        prediction: float = 1.0  # weight of the masked prediction
        fill: Fill = Fill.random

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        self.head = CodeHead(self.encoder.dim, self.quantizer.books, self.quantizer.codes)
        depth = self.encoder.depth
        self.layer = max(1, depth // 2) if cfg.layer is None else cfg.layer
        if not 1 <= self.layer <= depth:
            raise HarkError(f"objective.layer={cfg.layer}: choose one of the encoder's layers, 1 to {depth}")

    def forward(self, batch: Batch) -> Loss:
        loss, h, codes, mask = self.compare(batch)
        predicted = self.head.cross_entropy(select(h.last.x, mask), codes.ids)
        return loss.plus(predicted, self.cfg.prediction)
