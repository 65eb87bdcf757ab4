from dataclasses import dataclass, field
from typing import Any

from torch import nn

from research.contracts import Augmentation, Batch
from research.errors import HarkError
from research.registry import adjusted, build, preset, register, spelled_out


@register("chain")
class Chain(Augmentation):
    """Several augmentations in turn, each on what the one before it made.

    `parts` are registered names. What differs from their own settings stands under `settings`, by name; on the command
    line `+augmentation.settings.reverb.files=[rooms.jsonl]`.
    """

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        parts: list[str] = field(default_factory=lambda: ["speed", "reverb", "noise"])  # names, first to last
        settings: dict[str, Any] = field(default_factory=dict)  # name -> {key: value}

        def __post_init__(self) -> None:
            self.settings = spelled_out("augmentation", self.parts, self.settings)

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        if not cfg.parts:
            raise HarkError("augmentation.parts=[] names nothing: type augmentation=none for no augmentation")
        configs = [adjusted("augmentation", name, cfg.settings) for name in cfg.parts]
        self.parts = nn.ModuleList(build(config) for config in configs)
        self.keeps_time = all(part.keeps_time for part in self.parts)
        self.needs_noise = any(part.needs_noise for part in self.parts)

    def forward(self, batch: Batch) -> Batch:
        for part in self.parts:
            batch = part(batch)
        return batch


preset("nemo_speaker", Chain.Config(parts=["noise", "speed", "reverb"]))
preset("telephone_call", Chain.Config(parts=["telephone", "codec"]))
