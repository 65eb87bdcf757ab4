"""Config -> Objective. Dimensions come from the objects, never from cross-references in YAML."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from research import registry
from research.config import Config, Data, Parallel, Streams, Train
from research.contracts import (
    Augmentation,
    Encoded,
    Encoder,
    Frontend,
    Masking,
    Objective,
    Parts,
    Quantizer,
    Seq,
    Use,
)
from research.errors import HarkError
from research.registry import build


class Upstream(nn.Module):
    """Frontend and encoder: what any downstream use takes, wherever the weights came from."""

    def __init__(self, frontend: Frontend, encoder: Encoder) -> None:
        super().__init__()
        self.frontend, self.encoder = frontend, encoder
        self.dim, self.depth, self.sample_rate = encoder.dim, encoder.depth, frontend.sample_rate
        self.period = frontend.hop * encoder.stride / frontend.sample_rate  # seconds from frame to frame

    def forward(self, audio: Seq, layers: Sequence[int] | None = None) -> Encoded:
        """(B, N) -> Encoded with the layers that are asked for, all of them (0 to `depth`) if None: (B, T, D).

        HarkError: there is no such layer.
        """
        layers = self.layers if layers is None else layers
        for layer in layers:
            if layer not in self.layers:
                raise HarkError(f"layer {layer}: there is none; the encoder has the layers 0 to {self.depth}")
        encoded: Encoded = self.encoder(self.frontend(audio), layers)
        return encoded

    @property
    def device(self) -> torch.device:
        """Where it is; a bare frontend has buffers only."""
        return next(chain(self.parameters(), self.buffers())).device

    @property
    def layers(self) -> Sequence[int]:
        """Layer 0 is what the first block reads, layer k what block k gives."""
        return range(self.depth + 1)


class StoredUpstream(Upstream):
    """Layers that `hark extract` stored, in place of the encoder that made them; nothing in it is trained."""

    def __init__(
        self, *, layers: Sequence[int], depth: int, dim: int, period: float, sample_rate: int
    ) -> None:
        nn.Module.__init__(self)  # there is no frontend and no encoder
        self.stored = tuple(layers)
        self.dim, self.depth, self.sample_rate, self.period = dim, depth, sample_rate, period

    def forward(self, audio: Seq, layers: Sequence[int] | None = None) -> Encoded:
        """(B, T, L * D), the stored layers side by side -> Encoded; `last` is the deepest of them.

        HarkError: a layer is not stored.
        """
        parts = dict(zip(self.stored, audio.x.split(self.dim, -1), strict=True))  # each (B, T, D)
        layers = self.stored if layers is None else layers
        for layer in layers:
            if layer not in parts:
                raise HarkError(
                    f"layer {layer}: is not stored; stored are {', '.join(map(str, self.stored))}"
                )
        return Encoded(audio.replace(parts[max(parts)]), [parts[layer] for layer in layers])

    @property
    def layers(self) -> Sequence[int]:
        """The layers that are stored."""
        return self.stored


def build_upstream(frontend: Frontend.Config, encoder: Encoder.Config) -> Upstream:
    """Build both parts, their weights drawn from torch's generator."""
    first: Frontend = build(frontend)
    return Upstream(first, build(encoder, dim_in=first.dim))


def assemble(cfg: Config) -> Objective:
    """Build the whole model of a config, its weights drawn from `run.seed`."""
    torch.manual_seed(cfg.run.seed)
    frontend = build(cfg.frontend)
    encoder = build(cfg.encoder, dim_in=frontend.dim)
    return join(cfg, frontend, encoder, build(cfg.masking))


def join(cfg: Config, frontend: Frontend, encoder: Encoder, masking: Masking) -> Objective:
    """Build the objective around parts that are there; HarkError for a combination that cannot work."""
    made: list[Quantizer] = []

    def quantizer(dim_in: int) -> Quantizer:
        made.append(build(cfg.quantizer, dim_in=dim_in))
        return made[-1]

    parts = Parts(frontend=frontend, encoder=encoder, masking=masking, quantizer=quantizer)
    objective: Objective = build(cfg.objective, parts=parts)
    check_use(cfg, objective.masks, Use.must if made else Use.never)
    return objective


def check(cfg: Config) -> Objective:
    """Build on the meta device: refuses an illegal combination (HarkError) without memory or time."""
    with torch.device("meta"):
        return legal(cfg)


def legal(cfg: Config) -> Objective:
    """`assemble` what may be trained; HarkError for an illegal combination."""
    check_parallel(cfg.train)
    augment: Augmentation = build(cfg.augmentation)
    check_noise(augment, cfg.data)
    if not augment.keeps_time:
        raise HarkError(
            f"augmentation ({type(augment).__name__}) changes the lengths of what is heard, but an objective needs "
            "frames in step with those of the clean signal: type augmentation=none, or leave that part out"
        )
    objective = assemble(cfg)
    if isinstance(cfg.data, Streams) and "labels" in objective.wants:
        raise HarkError(
            "data=lhotse: has no labels of frames, for streams may cut and join what these count, and "
            f"objective={registry.name_of(cfg.objective)} learns from them; type data=manifest"
        )
    return objective


def check_use(cfg: Config, masks: Use, quantizes: Use) -> None:
    """HarkError for a part that the objective lacks, or that was chosen and would do nothing."""
    name = registry.name_of(cfg.objective)
    if masks is Use.must and not registry.class_of(cfg.masking).hides:
        raise HarkError(
            f"masking={registry.name_of(cfg.masking)}: objective={name} learns from masked frames; choose another"
        )
    for kind, use in {"masking": masks, "quantizer": quantizes}.items():
        part = getattr(cfg, kind)
        idle = part == default(kind) or type(part) is type(registry.config_of(kind, "none"))
        if use is Use.never and not idle:
            raise HarkError(
                f"{kind}={registry.name_of(part)}: objective={name} does not use it, so it would change nothing; "
                f"type {kind}=none"
            )


def default(kind: str) -> Any:
    """Give the config that stands where nobody chose one."""
    return next(registry.config_of(kind, choice[kind]) for choice in Config().defaults if kind in choice)


def check_parallel(train: Train) -> None:
    """HarkError for blocks that would be both compiled and gathered in pieces."""
    if train.compile and train.parallel is Parallel.fsdp:
        raise HarkError(
            "train.compile=true: compiles blocks as they are, but train.parallel=fsdp gathers each when it is called; "
            "type train.compile=false or train.parallel=ddp"
        )


def check_noise(augment: Augmentation, data: Data) -> None:
    """HarkError when an augmentation would wait for noise in vain."""
    if augment.needs_noise and not data.noise:
        raise HarkError(
            f"augmentation ({type(augment).__name__}) needs a noise corpus, but data.noise names no manifest: "
            "type data.noise=[path/to/noise.jsonl]"
        )
