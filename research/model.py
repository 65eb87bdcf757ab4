"""Config -> Objective. Dimensions come from the objects, never from cross-references in YAML."""

import torch

from research.config import Config
from research.contracts import Objective, Parts
from research.registry import build


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
