from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Loss, Seq, Stat
from research.downstream import Criterion
from research.registry import register


@register("ctc")
class CTC(Criterion):
    """Connectionist temporal classification (ICML 2006, doi 10.1145/1143844.1143891); the blank is the last class.

    The sum over rows is counted in label tokens. A row without labels has no loss; nor has one with fewer frames
    than its labels and the blanks between equal ones need, of which `too_short` is the share. In fp32.
    """

    frames = True

    @dataclass(kw_only=True)
    class Config(Criterion.Config):
        pass

    def __init__(self, cfg: Config, *, dim_in: int, classes: int) -> None:
        super().__init__()
        self.blank = classes
        self.out = nn.Linear(dim_in, classes + 1)

    def forward(self, h: Seq, labels: Seq) -> Loss:  # (B, T, E), (B, U, 1)
        tokens, wanted = labels.x[..., 0], labels.lengths > 0  # (B, U), (B,)
        scores = self.scores(h)  # (B, T, K + 1)
        losses = F.ctc_loss(
            scores.log_softmax(-1).transpose(0, 1), tokens, h.lengths, labels.lengths,
            self.blank, reduction="none", zero_infinity=True,
        )  # (B,)  # fmt: skip
        wanted = wanted.to(losses.device, non_blocking=True)
        with torch.no_grad():
            blanks = ((scores.argmax(-1) == self.blank) & h.valid).sum()
            short = (needed(tokens, labels.valid) > h.lengths.to(losses.device, non_blocking=True)).sum()
            stats = {"blank": Stat(blanks, int(h.lengths.sum())), "too_short": Stat(short, len(tokens))}
        return Loss((losses * wanted).sum(), int(labels.lengths.sum()), stats)

    def scores(self, h: Seq) -> Tensor:  # (B, T, E) -> (B, T, K + 1)
        return self.out(h.x).float()


def needed(tokens: Tensor, valid: Tensor) -> Tensor:
    """Frames that the labels take at least: (B, U), bool (B, U) -> (B,)."""
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & valid[:, 1:]  # (B, U - 1)
    return valid.sum(1) + repeats.sum(1)
