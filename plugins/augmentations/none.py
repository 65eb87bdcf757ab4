from dataclasses import dataclass

from research.contracts import Augmentation, Batch
from research.registry import register


@register("none")
class NoAugmentation(Augmentation):
    """The student hears the clean signal."""

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        pass

    def __init__(self, cfg: Config) -> None:
        super().__init__()

    def forward(self, batch: Batch) -> Batch:
        return batch
