from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Masking
from research.errors import HarkError
from research.registry import preset, register


@register("inverse_block")
class InverseBlock(Masking):
    """Blocks of frames are kept, all else is masked (data2vec 2.0, arXiv 2212.07525, section 3.3).

    A row of L frames keeps (1 - prob) * L, the fraction rounded up with its own probability; one at least, and never
    all of two or more. Blocks begin anywhere and may overlap; frames drawn at random make up the exact number, taken
    from the blocks where these hold too many.
    """

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        prob: float = 0.5  # share of frames that is masked
        length: int = 5  # frames of a block that is kept
        adjust: float = 0.05  # share of frames by which more is put in blocks, for they overlap

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        if not 0 < cfg.prob < 1 or cfg.length < 1:
            raise HarkError(
                f"masking.prob={cfg.prob}, masking.length={cfg.length}: choose a share between 0 and 1, and 1 frame or "
                "more"
            )
        self.cfg = cfg

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        cfg, rows = self.cfg, len(lengths)
        frame = torch.arange(size)  # (S,)
        inside = frame < lengths[:, None]  # (B, S)
        wanted = ((1 - cfg.prob) * lengths + torch.rand(rows)).long()  # (B,) frames to keep
        wanted = torch.minimum(wanted, lengths - 1).clamp(min=1)
        blocks = ((1 - cfg.prob + cfg.adjust) * lengths / cfg.length).ceil()  # (B,)
        draw = torch.rand(rows, size).masked_fill(~inside, 2.0)  # (B, S)
        centre = draw.argsort(dim=1).argsort(dim=1) < blocks[:, None]  # (B, S)
        before = cfg.length // 2
        padded = F.pad((centre & inside).float(), (before, cfg.length - 1 - before))  # (B, S + length - 1)
        block = F.max_pool1d(padded[:, None], cfg.length, stride=1)[:, 0]  # (B, S) 1 in blocks
        draw = (torch.rand(rows, size) - block).masked_fill(~inside, 2.0)  # (B, S)
        keep = draw.argsort(dim=1).argsort(dim=1) < wanted[:, None]  # (B, S)
        return inside & ~keep


preset("inverse_block_large", InverseBlock.Config(prob=0.55, adjust=0.1))
