from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plugins.objectives.hubert import MaskedPrediction
from research.contracts import Batch, Parts, Seq
from research.errors import HarkError
from research.nn.functional import stack
from research.nn.teacher import Teacher
from research.registry import register


@register("hubert_online")
class OnlineHuBERT(MaskedPrediction):
    """HuBERT (arXiv 2106.07447) without a dump of labels: a frozen copy of the model hears the clean signal too.

    Until the first refresh the copy's frontend is quantized, the frames of one encoder frame side by side; then its
    layer `layer`. Every `refresh` steps the copy becomes what the model is, and a quantizer that is fitted is fitted
    anew. Both quantizers have as many codes. One model is trained on, where the paper starts every iteration afresh.
    """

    example = (
        "encoder=fastconformer_tiny",
        "quantizer=kmeans",
        "quantizer.codes=16",
        "masking.length=4",
        "objective.refresh=2",
    )
    refreshed: Tensor  # scalar, int64: `late`, for checkpoints

    @dataclass(kw_only=True)
    class Config(MaskedPrediction.Config):
        layer: int | None = None  # whose frames are quantized; null: half-way up
        refresh: int = 10_000  # steps

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        depth = self.encoder.depth
        self.layer = max(1, depth // 2) if cfg.layer is None else cfg.layer
        if not 0 <= self.layer <= depth:
            raise HarkError(f"objective.layer={cfg.layer}: choose one of the encoder's layers, 0 to {depth}")
        if cfg.refresh < 1:
            raise HarkError(f"objective.refresh={cfg.refresh}: choose a number of steps above 0")
        self.of_frames = parts.quantizer(self.frontend.dim * self.encoder.stride)
        self.of_layer = parts.quantizer(self.encoder.dim)
        if any(p.requires_grad for p in self.of_layer.parameters()):
            raise HarkError("this objective trains no quantizer; type quantizer=kmeans")
        self.head = self.make_head(self.of_layer.books, self.of_layer.codes)
        self.teacher = Teacher(self.model())
        self.register_buffer("refreshed", torch.zeros((), dtype=torch.long))
        self.late = False  # whether the copy is of a model that has learnt
        self.register_load_state_dict_post_hook(go_on)

    def model(self) -> nn.ModuleDict:
        """What is copied."""
        return nn.ModuleDict({"frontend": self.frontend, "encoder": self.encoder})

    @torch.no_grad()
    def targets(self, batch: Batch, z: Seq) -> Seq:
        copy = self.teacher.model
        with torch.autocast(z.x.device.type, enabled=False):
            feats = copy["frontend"](batch.audio)  # (B, S, F)
            if self.late:
                return z.replace(copy["encoder"](feats, (self.layer,)).layers[0])  # (B, T, D)
            return z.replace(stack(feats.x, self.encoder.stride))  # (B, T, r * F)

    def ids(self, y: Tensor) -> Tensor:
        ids: Tensor = (self.of_layer if self.late else self.of_frames)(y).ids
        return ids

    def initialised(self, names: Collection[str]) -> None:
        self.teacher.begin(self.model(), names)

    def on_step_end(self, step: int) -> None:
        if step % self.cfg.refresh == 0:
            self.teacher.follow(self.model(), keep=0.0)
            self.of_layer.refit()
            self.refreshed.fill_(1)
            self.late = True


def go_on(model: nn.Module, _keys: object) -> None:
    """Put what a checkpoint says on the host, where a step may read it."""
    assert isinstance(model, OnlineHuBERT)
    model.late = bool(model.refreshed)
