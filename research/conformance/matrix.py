"""Every combination of parts: refused with a reason, or one training step of it. `make matrix`.

Its axes are all registered classes, each at its presets called `_tiny` or, where there is none, at its `example`. So an
encoder that can also be causal stands there twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import cache, reduce
from itertools import combinations, product
from operator import or_
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf

from research import registry
from research.config import Config, Optimizer
from research.conformance.case import speech
from research.conformance.rules import crash
from research.conformance.tools import student
from research.contracts import Batch, Encoder, Frontend, Loss, Masking, Objective, Plugin, Stat, Use
from research.engine.gangs import Ranks
from research.errors import HarkError
from research.model import assemble, check_use, join
from research.schedules import Constant
from research.training.data import Fed
from research.training.stats import StatBag
from research.training.step import train_step

AXES = ("encoder", "quantizer", "masking", "objective", "frontend")
DRAWS = 3  # of first weights, at most
UNREACHED = "no gradient reaches the encoder"
FRAMES = 18, 16  # encoder frames of the two rows of a cell's batch
SIZES = {  # of fields, smaller than an example needs them
    "masking": {"length": 14},  # frames: one of 8 frames lies in it wherever it is, and it fits into 16
    "frontend": {"channels": 16},
    "encoder": {"channels": 8},
}
BATCHES: dict[tuple[str, str], Batch] = {}  # by frontend and encoder


class Cell(NamedTuple):
    """A name on every axis."""

    encoder: str
    quantizer: str
    masking: str
    objective: str
    frontend: str

    def __str__(self) -> str:
        return " ".join(f"{axis}={name}" for axis, name in zip(AXES, self, strict=True))


@cache
def axis(kind: str) -> dict[str, Plugin.Config]:
    """Names on an axis, each with its tiny config: of hark's own plugins."""
    registry.load_plugins()
    classes = dict.fromkeys(registry.find(kind, name) for name in registry.names(kind))
    found = {}
    for cls in (cls for cls in classes if cls.__module__.startswith(f"{registry.home().name}.")):
        names = registry.names_of(cls)
        for name in [name for name in names if "_tiny" in name] or names[:1]:
            found[name] = tiny(kind, name, cls)
    return dict(sorted(found.items()))


def tiny(kind: str, name: str, cls: type[Plugin]) -> Plugin.Config:
    """Give the config of a name with what its class's example says of this kind."""
    own = [word.removeprefix(f"{kind}.") for word in cls.example if word.startswith(f"{kind}.")]
    full = OmegaConf.structured(registry.config_of(kind, name))
    merged = OmegaConf.merge(full, OmegaConf.from_dotlist(own))
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Plugin.Config)
    known = {field.name for field in fields(config)}
    return replace(config, **{key: size for key, size in SIZES.get(kind, {}).items() if key in known})


def cells() -> Iterator[Cell]:
    """Every cell, those that share most of their parts one after another."""
    order = ("frontend", "encoder", "objective", "masking", "quantizer")
    for names in product(*(axis(kind) for kind in order)):
        yield Cell(**dict(zip(order, names, strict=True)))


def config(cell: Cell) -> Config:
    """Give a run of a cell."""
    parts: dict[str, Any] = {kind: axis(kind)[name] for kind, name in zip(AXES, cell, strict=True)}
    none = registry.config_of("augmentation", "none")
    return Config(augmentation=none, schedule=Constant(), optimizer=Optimizer(lr=1e-3), **parts)


@cache
def upstream(frontend: str, encoder: str) -> tuple[Frontend, Encoder]:
    """Both parts without values, to build objectives on."""
    with torch.device("meta"):
        first: Frontend = registry.build(axis("frontend")[frontend])
        return first, registry.build(axis("encoder")[encoder], dim_in=first.dim)


@cache
def masking(name: str) -> Masking:
    made: Masking = registry.build(axis("masking")[name])
    return made


def built(cell: Cell) -> Objective:
    """Build a cell's model without values; HarkError when it is refused."""
    with torch.device("meta"):
        return join(config(cell), *upstream(cell.frontend, cell.encoder), masking(cell.masking))


def refusal(cell: Cell) -> str:
    """Why a cell is refused when its config is composed; nothing when it is legal."""
    try:
        built(cell)
    except HarkError as error:
        return str(error)
    return ""


def legal() -> list[Cell]:
    """Give all cells that are not refused, without asking each: `make matrix` does, and compares.

    An objective is built beside one masking, for it may ask nothing of it but masks; and beside one quantizer, where
    it builds with quantizer=none.
    """
    found = list[Cell]()
    for names in product(axis("encoder"), axis("objective"), axis("frontend")):
        encoder, objective, frontend = names
        alone = Cell(encoder, "none", "none", objective, frontend)
        if masks := asks(alone):
            some = [alone._replace(quantizer=name) for name in axis("quantizer")]
            found += useful(some, masks, Use.never)
            continue
        for name in axis("quantizer"):
            if masks := asks(alone._replace(quantizer=name)):
                found += useful([alone._replace(quantizer=name)], masks, Use.must)
    return found


def asks(cell: Cell) -> Use | None:
    """What the objective of a cell does with masks; None when it is refused beside any."""
    for name in ("block", "none"):
        with suppress(HarkError):
            return built(cell._replace(masking=name)).masks
    return None


def useful(some: Sequence[Cell], masks: Use, quantizes: Use) -> Iterator[Cell]:
    """Those cells, with any masking, in which no part would do nothing."""
    for cell in (each._replace(masking=name) for each in some for name in axis("masking")):
        with suppress(HarkError):
            check_use(config(cell), masks, quantizes)
            yield cell


def problem(cell: Cell, ranks: Ranks) -> str:
    """Do one training step of a legal cell; what is wrong with it, or nothing.

    Where no gradient reaches the encoder, other first weights are tried: where the few frames of a batch all have the
    code of one random projection, there is nothing to tell them from.
    """
    said = (step(cell, ranks, seed) for seed in range(DRAWS))
    return next((one for one in said if one != UNREACHED), UNREACHED)


def step(cell: Cell, ranks: Ranks, seed: int) -> str:
    """Do it with the weights of a seed.

    It may take a second: clusters begin at the inputs of the first, until then all frames may have one code.
    """
    try:
        cfg = config(cell)
        cfg.run.seed = seed
        model = assemble(cfg)
        counts, found = list[int](), list[str]()
        model.register_forward_hook(lambda _module, _args, loss: counts.append(counted(loss)))
        it = student(model, cfg, ranks)
        it.optimizer.register_step_pre_hook(lambda *_: found.append(unreached(model)))
        it.task.train()
        fed = Fed(batch_of(cell, model), 1.0, Stat(torch.zeros(())))
        steps = (train_step(it, iter([fed]), n, StatBag(ranks.device), stop=False).sound for n in (0, 1))
        sound = next(steps) and (not found[0] or next(steps))
    except Exception as error:  # noqa: BLE001  a plugin can fail in any way
        return crash(error)
    if not sound:
        return "the loss or a gradient is not finite"
    return found[-1] if any(counts) else "the batch has no target"


def counted(loss: Loss) -> int:
    return loss.count


def unreached(model: Objective) -> str:
    """Name a trained parameter without a gradient, or say that none reaches the encoder."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is None:
            return f"{name} has no gradient"
    grads = [p.grad for p in model.encoder.parameters() if p.grad is not None]
    return "" if any(bool(grad.any()) for grad in grads) else UNREACHED


def batch_of(cell: Cell, model: Objective) -> Batch:
    """Two rows of noise of so many encoder frames, the second with more noise on it; made once for cells alike."""
    alike = cell.frontend, cell.encoder
    if alike not in BATCHES:
        hop = model.frontend.hop * model.encoder.stride / model.frontend.sample_rate  # seconds
        BATCHES[alike] = speech(model, [frames * hop + 0.03 for frames in FRAMES])
    return BATCHES[alike]


def covering(some: Sequence[Cell]) -> list[Cell]:
    """Choose cells among which every pair of names occurs that occurs in any of them, greedily."""
    number: dict[Any, int] = {}
    masks = []
    for cell in some:
        pairs = combinations(zip(AXES, cell, strict=True), 2)
        masks.append(reduce(or_, (1 << number.setdefault(pair, len(number)) for pair in pairs)))
    missing, chosen = (1 << len(number)) - 1, []
    while missing:
        best = max(range(len(some)), key=lambda k: (masks[k] & missing).bit_count())
        chosen.append(some[best])
        missing &= ~masks[best]
    return chosen
