from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat, Use
from research.errors import HarkError
from research.nn.functional import mean, select, stack
from research.nn.future import Future, heard
from research.nn.linear import Linear
from research.registry import register


@register("apc")
class APC(Objective):
    """Predict the frames some way ahead of what the encoder has heard, by L1 (arXiv 1904.03240, section 3).

    Deviations: any streaming encoder takes the place of the paper's recurrent one; it predicts all the frontend frames
    that become one of its own, and the clean ones where it hears noise. Some frontends tell of what is to come:
    `log_mel` its mean and spread over the utterance, `mfcc` its deltas; `log_mel_raw` does not. Neighbouring windows
    share samples, which `shift` can skip.
    """

    example = ("encoder=fastconformer_tiny_causal",)
    masks = Use.never

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        shift: int = 1  # n of the paper: encoder frames from the last that was heard

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        self.ahead = heard(self.encoder, "apc")
        if cfg.shift < 1:
            raise HarkError(f"objective.shift={cfg.shift}: is no frame to come; type 1 or more")
        if any(p.requires_grad for p in self.frontend.parameters()):
            raise HarkError(
                "objective=apc: predicts the frontend's frames, and one that is trained would learn to make them "
                "all alike; type frontend=log_mel_raw"
            )
        self.shift = cfg.shift
        self.head = Linear(self.encoder.dim, self.encoder.stride * self.frontend.dim)

    def forward(self, batch: Batch) -> Loss:
        r = self.encoder.stride
        clean, noisy = self.features(batch)  # (B, S, F)
        h = self.encoder(noisy).last  # (B, T, D)
        counts = clean.lengths // r  # (B,) whole pieces
        future = Future.of(counts, h.x.size(1), self.ahead + self.shift, 1)
        pieces = stack(clean.x, r)  # (B, T, r * F)
        whole = torch.arange(pieces.size(1)) < counts[:, None]  # (B, T)
        x = select(pieces, whole).float()  # (P, r * F)
        target = future.targets(x)  # (M, r * F)
        y = self.head(select(h.x, future.asking)).float()  # (M, r * F)
        error = distance(y, target)
        with torch.no_grad():
            last = x[:, -self.frontend.dim :].repeat(1, r)  # (P, r * F) the last frame of each piece, held
            held = distance(future.targets(last, -self.shift), target)
            average = select(self.average(clean, pieces), whole)  # (P, r * F)
            stats = {
                "l1": error.detach(),
                "hold_l1": held,
                "mean_l1": distance(future.targets(average), target),
            }
        return Loss(error, len(target), {name: Stat(total, len(target)) for name, total in stats.items()})

    def average(self, clean: Seq, pieces: Tensor) -> Tensor:
        """The mean frame of each utterance, in place of its pieces: (B, S, F), (B, T, r * F) -> (B, T, r * F)."""
        each = mean(clean.x, clean.valid).repeat(1, self.encoder.stride)  # (B, r * F)
        return each[:, None].expand_as(pieces)


def distance(y: Tensor, x: Tensor) -> Tensor:
    """L1, averaged over channels and summed over frames: (M, C), (M, C) -> scalar."""
    return (y - x).abs().mean(-1).sum()
