from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from research.contracts import Augmentation, Batch
from research.errors import HarkError, nearest
from research.registry import build, config_of, preset, register


@register("chain")
class Chain(Augmentation):
    """Several augmentations in turn, each on what the one before it made.

    `parts` are registered names. What differs from their own settings stands under `settings`, by name; on the command
    line `+augmentation.settings.reverb.files=[rooms.jsonl]`.
    """

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        parts: list[str] = field(default_factory=lambda: ["speed", "reverb", "noise"])
        settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        if not cfg.parts:
            raise HarkError("augmentation.parts=[] names nothing: type augmentation=none for no augmentation")
        for name in cfg.settings:
            if name not in cfg.parts:
                hint = nearest(name, cfg.parts)
                raise HarkError(f"augmentation.settings.{name}: '{name}' is none of augmentation.parts{hint}")
        self.parts = nn.ModuleList(build(adjusted(name, cfg.settings.get(name, {}))) for name in cfg.parts)
        self.keeps_time = all(part.keeps_time for part in self.parts)
        self.needs_noise = any(part.needs_noise for part in self.parts)

    def forward(self, batch: Batch) -> Batch:
        for part in self.parts:
            batch = part(batch)
        return batch


def adjusted(name: str, settings: dict[str, Any]) -> Any:
    """The config of `augmentation=name` with some other values; HarkError tells which cannot be."""
    config = config_of("augmentation", name)
    try:
        made: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config), settings))
    except OmegaConfBaseException as error:
        raise HarkError(f"augmentation.settings.{name}: {str(error).splitlines()[0]}") from None
    return made


preset("nemo_speaker", Chain.Config(parts=["noise", "speed", "reverb"]))
