"""Config -> Objective. Dimensions come from the objects, never from cross-references in YAML."""

from collections.abc import Sequence

import torch
from torch import nn

from research.config import Config
from research.contracts import Encoded, Encoder, Frontend, Objective, Parts, Seq
from research.registry import build


class Upstream(nn.Module):
    """Frontend and encoder: what any downstream use takes, wherever the weights came from."""

    def __init__(self, frontend: Frontend, encoder: Encoder) -> None:
        super().__init__()
        self.frontend, self.encoder = frontend, encoder
        self.dim, self.depth, self.sample_rate = encoder.dim, encoder.depth, frontend.sample_rate
        self.period = frontend.hop * encoder.stride / frontend.sample_rate  # seconds from frame to frame

    def forward(self, audio: Seq, layers: Sequence[int] | None = None) -> Encoded:
        """(B, N) -> Encoded with the layers that are asked for, all of them (0 to `depth`) if None: (B, T, D)."""
        encoded: Encoded = self.encoder(self.frontend(audio), self.layers if layers is None else layers)
        return encoded

    @property
    def layers(self) -> range:
        """Layer 0 is what the first block reads, layer k what block k gives."""
        return range(self.depth + 1)


def assemble(cfg: Config) -> Objective:
    """Build the whole model of a config, its weights drawn from `run.seed`."""
    torch.manual_seed(cfg.run.seed)
    frontend = build(cfg.frontend)
    parts = Parts(
        frontend=frontend,
        encoder=build(cfg.encoder, dim_in=frontend.dim),
        masking=build(cfg.masking),
        quantizer=lambda dim_in: build(cfg.quantizer, dim_in=dim_in),
    )
    objective: Objective = build(cfg.objective, parts=parts)
    return objective


def check(cfg: Config) -> Objective:
    """Build on the meta device: refuses an illegal combination (HarkError) without memory or time."""
    with torch.device("meta"):
        return assemble(cfg)
