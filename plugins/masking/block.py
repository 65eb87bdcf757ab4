from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Masking
from research.registry import preset, register


@register("block")
class Block(Masking):
    """Every frame that has room starts a block with probability `prob`; blocks may overlap (arXiv 2202.01855).

    A row that can hold a block but drew none gets one at a random place. A row shorter than a block is left alone.
    """

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        prob: float = 0.01  # of a frame to begin a block
        length: int = 40  # frames

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        places = (lengths - self.cfg.length + 1).clamp(min=0)  # (B,) possible starts
        possible = torch.arange(size) < places[:, None]  # (B, S)
        draw = torch.rand(len(lengths), size).masked_fill(~possible, 2.0)  # (B, S)
        luckiest = draw == draw.amin(dim=1, keepdim=True)  # (B, S) the start of a row that drew none
        start = ((draw < self.cfg.prob) | luckiest) & possible  # (B, S)
        padded = F.pad(start.float(), (self.cfg.length - 1, 0))  # (B, S + length - 1)
        return F.max_pool1d(padded[:, None], self.cfg.length, stride=1)[:, 0].bool()  # (B, S)


preset("random", Block.Config(prob=0.15, length=1))  # each frame by itself


@register("grid_block")
class GridBlock(Masking):
    """Blocks that never overlap: places on a grid with a random offset, `prob` of the frames covered.

    A row of L frames gets `prob * L / length` blocks, the fraction rounded up with its own probability; at least one
    where one fits, and never more than the grid has places.
    """

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        prob: float = 0.5  # share of frames that is masked
        length: int = 48  # frames

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        length, rows = self.cfg.length, len(lengths)
        places = lengths // length  # (B,)
        wanted = (self.cfg.prob * lengths / length + torch.rand(rows)).long()  # (B,)
        wanted = torch.minimum(wanted.clamp(min=1), places)
        room = lengths - places * length + 1  # (B,) offsets that keep every place inside the row
        offset = (torch.rand(rows) * room).long()  # (B,)
        cells = max(1, size // length)
        draw = torch.rand(rows, cells).masked_fill(torch.arange(cells) >= places[:, None], 2.0)  # (B, cells)
        chosen = draw.argsort(dim=1).argsort(dim=1) < wanted[:, None]  # (B, cells)
        frame = torch.arange(size) - offset[:, None]  # (B, S)
        cell = frame.div(length, rounding_mode="floor")  # (B, S)
        inside = (cell >= 0) & (cell < places[:, None])  # (B, S)
        return inside & chosen.gather(1, cell.clamp(0, cells - 1))  # (B, S)
