from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from plugins.frontends.fbank import Fbank
from research.contracts import Seq
from research.errors import HarkError
from research.nn.kaldi import cosines
from research.nn.mel import Normalize
from research.registry import preset, register

REACH = 2  # frames before and after that a delta looks at


@register("mfcc")
class MFCC(Fbank):
    """Kaldi's cepstra with their deltas and double deltas: what HuBERT's first labels are of (arXiv 2106.07447).

    39 numbers every 10 ms, standardised per utterance; `mfcc_plain` leaves them as they are, as HuBERT's clusters have
    them. Kaldi reads samples as 16-bit integers; HuBERT's script leaves them in [-1, 1], which moves the first
    coefficient by a constant, and floors near-silence earlier.
    """

    cosines: Tensor  # (bands, ceps)

    @dataclass(kw_only=True)
    class Config(Fbank.Config):
        bands: int = 23  # mel bands
        stack: int = 1
        ceps: int = 13  # coefficients, the level among them
        lifter: float = 22.0  # the higher coefficients are raised by a sine of half this period

    cfg: Config

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        if not 1 <= cfg.ceps <= cfg.bands:
            raise HarkError(f"frontend.ceps={cfg.ceps}: choose 1 to frontend.bands={cfg.bands} coefficients")
        if cfg.lifter <= 0:
            raise HarkError(f"frontend.lifter={cfg.lifter:g}: choose more than 0 (Kaldi: 22)")
        self.dim = 3 * cfg.ceps * cfg.stack
        order = torch.arange(cfg.ceps, device="cpu")
        raised = 1 + cfg.lifter / 2 * torch.sin(pi * order / cfg.lifter)  # (ceps,)
        self.register_buffer("cosines", cosines(cfg.bands, cfg.ceps) * raised, persistent=False)

    def describe(self, feats: Seq) -> Seq:
        cepstra = feats.x @ self.cosines  # (B, S, ceps)
        first = deltas(cepstra, feats.lengths)
        return feats.replace(
            torch.cat([cepstra, first, deltas(first, feats.lengths)], -1)
        )  # (B, S, 3 * ceps)


def deltas(x: Tensor, lengths: Tensor) -> Tensor:
    """Slopes of lines through five frames, the first and last one of a row repeated beyond it: (B, S, C) -> (B, S, C)."""
    last = (lengths - 1).clamp(min=0)[:, None]  # (B, 1)
    frame, slope = torch.arange(x.size(1)), torch.zeros_like(x)
    for step in range(1, REACH + 1):
        ahead, back = (
            (frame + shift).clamp(min=0).minimum(last).to(x.device, non_blocking=True)[..., None].expand_as(x)
            for shift in (step, -step)
        )  # (B, S, C) each
        slope = slope + step * (x.gather(1, ahead) - x.gather(1, back))
    return slope / (2 * sum(step**2 for step in range(1, REACH + 1)))


preset("mfcc_plain", MFCC.Config(normalize=Normalize.none))
