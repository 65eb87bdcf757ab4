from dataclasses import dataclass

import torch
from torch import Tensor

from plugins.objectives.nest import NEST
from research.contracts import Parts, Seq
from research.registry import register


@register("best_rq")
class BestRQ(NEST):
    """NEST's clean form: masked frames become fresh noise (arXiv 2202.01855, section 3.1).

    The paper augments nothing (`augmentation=none`) and normalises what it quantizes (`quantizer=best_rq`).
    """

    @dataclass(kw_only=True)
    class Config(NEST.Config):
        noise: float = 0.1  # standard deviation

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        del self.mask_token

    def fill(self, feats: Seq, mask: Tensor) -> Seq:
        mask = mask.to(feats.x.device, non_blocking=True)
        return feats.replace(
            torch.where(mask[..., None], self.cfg.noise * torch.randn_like(feats.x), feats.x)
        )
