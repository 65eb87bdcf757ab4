from dataclasses import dataclass, field

from torch import Tensor

from plugins.objectives.dinosr import ClusterPrediction
from research.contracts import Seq
from research.registry import preset, register
from research.schedules import Decay


@register("spidr")
class SpidR(ClusterPrediction):
    """SpidR (arXiv 2512.20308): every layer of the student predicts the clusters of the same layer of the teacher.

    The share of the student that the teacher takes at a step falls exponentially, and the teacher never stops. As in
    `dinosr`, all of the encoder is averaged, what comes before its blocks too, so that only the frontend is frozen.
    """

    @dataclass(kw_only=True)
    class Config(ClusterPrediction.Config):
        take: Decay = field(  # share of the student that the teacher takes at a step
            default_factory=lambda: Decay(start=1e-3, end=0.0, rate=0.99995)
        )

    cfg: Config

    def student(self, x: Seq) -> list[Tensor]:
        layers: list[Tensor] = self.encoder.context(x, self.top).layers
        return layers

    def on_step_end(self, step: int) -> None:
        self.teacher.follow(self.encoder, 1 - self.cfg.take(step))


preset("spidr_base", SpidR.Config())
