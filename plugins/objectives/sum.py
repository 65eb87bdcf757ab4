from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat, Task, Use
from research.errors import HarkError
from research.nn.modules import MaskToken
from research.nn.once import Once, replaced, shared
from research.registry import adjusted, build, register, spelled_out

SHARED = ("frontend", "encoder", "masking")


@register("sum")
class Sum(Objective):
    """Several objectives on one encoder: `weights` times the losses of `parts`, per target of the first part.

    They hear the same signal under the same masks. Parts that also mask at the same place, and fill with a vector, share
    that vector and one pass through the encoder; so `parts=[nest,tera]` costs one head more, `parts=[nest,data2vec]` a
    pass more. What differs from a part's own settings stands under `settings`, by name; on the command line
    `+objective.settings.tera.beta=0.5`. All parts quantize as `quantizer` says.
    """

    example = ("objective.parts=[nest,best_rq]", "encoder=fastconformer_tiny", "quantizer.codes=64")

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        parts: list[str] = field(default_factory=lambda: ["nest", "best_rq"])  # names of objectives
        weights: list[float] = field(default_factory=list)  # one for each; none: all are 1
        settings: dict[str, Any] = field(default_factory=dict)  # name -> {key: value}

        def __post_init__(self) -> None:
            self.settings = spelled_out("objective", self.parts, self.settings)

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        refuse(cfg)
        self.weights = cfg.weights or [1.0] * len(cfg.parts)
        self.parts: Any = nn.ModuleDict()
        for name in cfg.parts:
            self.parts[name] = self.part(name, build(adjusted("objective", name, cfg.settings), parts=parts))
        members: list[Any] = [*self.parts.values()]
        uses = {part.masks for part in members}
        self.masks = Use.must if Use.must in uses else Use.may if Use.may in uses else Use.never
        self.wants = tuple(dict.fromkeys(want for part in members for want in part.wants))

    def part(self, name: str, made: Objective) -> Objective:
        """Take one objective in. What parts share is in the model once: they hold it without owning it."""
        if type(made).param_groups is not Task.param_groups or made.stages:
            raise HarkError(f"objective.parts: {name} trains parameters by a plan of its own; train it alone")
        borrowed: dict[str, Any] = {key: getattr(self, key) for key in SHARED}
        others = [part.mask_token for part in self.parts.values() if fills_with_a_vector(part)]
        if fills_with_a_vector(made) and (
            same := [token for token in others if alike(token, made.mask_token)]
        ):
            borrowed["mask_token"] = same[0]
        for key, module in borrowed.items():
            delattr(made, key)
            vars(made)[key] = module
        return made

    def initialised(self, names: Collection[str]) -> None:
        for name, part in self.parts.items():
            part.initialised([other.removeprefix(f"parts.{name}.") for other in names])

    def forward(self, batch: Batch) -> Loss:
        features = self.features(batch)  # (B, S, F) twice
        for part in self.parts.values():
            vars(part).update({key: getattr(self, key) for key in SHARED})  # as they are now
        with shared(self.encoder, self.masking) as once:
            losses = [self.ask(part, batch, features, once) for part in self.parts.values()]
        total = torch.zeros_like(losses[0].total)
        stats: dict[str, Stat] = {}
        for name, loss, weight in zip(self.parts, losses, self.weights, strict=True):
            total = total + weight * loss.total
            stats[f"{name}_loss"] = Stat(loss.total.detach(), loss.count)
            stats |= {f"{name}_{key}": stat for key, stat in loss.stats.items()}
        return Loss(total, losses[0].count, stats)

    def ask(self, part: Any, batch: Batch, features: tuple[Seq, Seq], once: Once) -> Loss:
        """The loss of one part, which may use what others have computed."""
        once.next()
        hide = part.hide

        def hide_once(x: Seq, mask: Tensor) -> Seq:
            found: Seq = once.answer("hide", [x.x, mask, part.mask_token.vector], lambda: hide(x, mask))
            return found

        with replaced(part, "features", lambda _: features), ExitStack() as held:
            if fills_with_a_vector(part):
                held.enter_context(replaced(part, "hide", hide_once))
            loss: Loss = part(batch)
        return loss


def fills_with_a_vector(part: Any) -> bool:
    """Whether what it puts on masked frames depends on nothing but its mask token."""
    return type(part).fill is Objective.fill and isinstance(getattr(part, "mask_token", None), MaskToken)


def alike(some: Any, other: Any) -> bool:
    """Whether two mask tokens are of one width, and both trained or both not."""
    x, y = some.vector, other.vector
    return bool(x.shape == y.shape and x.requires_grad == y.requires_grad)


def refuse(cfg: Sum.Config) -> None:
    """Raise HarkError for a sum that cannot be."""
    if len(cfg.parts) < 2 or len(set(cfg.parts)) < len(cfg.parts) or "sum" in cfg.parts:
        raise HarkError(f"objective.parts={cfg.parts}: name two or more objectives, each once")
    if cfg.weights and len(cfg.weights) != len(cfg.parts):
        raise HarkError(f"objective.weights={cfg.weights}: give one for each of objective.parts={cfg.parts}")
