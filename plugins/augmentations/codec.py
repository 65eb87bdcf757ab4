from dataclasses import dataclass, field
from enum import Enum
from math import log, log1p

import torch
from torch import Tensor

from research.contracts import Augmentation, Batch, Seq
from research.errors import HarkError
from research.nn.augment import check_prob, chosen
from research.registry import register

MU, A = 255.0, 87.6


class Law(Enum):
    """How a sample is squeezed before it is rounded (ITU-T G.711)."""

    mu = "mu"
    a = "a"


@register("codec")
class Codec(Augmentation):
    """Send some utterances through a telephone's codec: every sample rounded on the mu-law or the A-law curve.

    The curves are the smooth ones that G.711 approximates by straight pieces, a sign and `bits` - 1 bits of size; a
    chosen row draws one of `laws`. Samples beyond [-1, 1] are clipped. Telephones also cut the band:
    `augmentation=telephone_call` does both. Codecs that decide bit by bit (MP3, Vorbis, Opus) run on the host, file by
    file: for those, add decoded copies of the corpus to `data.train`.
    """

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        laws: list[Law] = field(
            default_factory=lambda: [Law.mu, Law.a]
        )  # of companding, of which one is drawn
        bits: int = 8  # of a sample

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        if not cfg.laws:
            raise HarkError("augmentation.laws=[]: name at least one of mu, a")
        if not 2 <= cfg.bits <= 16:
            raise HarkError(f"augmentation.bits={cfg.bits}: choose 2 to 16")
        self.cfg, self.steps = cfg, 2 ** (cfg.bits - 1) - 1

    def forward(self, batch: Batch) -> Batch:
        heard = batch.noisy
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,)
        if len(rows) == 0:
            return batch
        drawn = torch.randint(len(self.cfg.laws), (len(rows),))  # (K,)
        at, law = (index.to(heard.x.device, non_blocking=True) for index in (rows, drawn))
        sent = Seq(heard.x[at], heard.lengths[rows])  # (K, N)
        decoded = torch.stack([self.decoded(sent.x, name) for name in self.cfg.laws])  # (laws, K, N)
        received = decoded[law, torch.arange(len(law), device=law.device)]  # (K, N)
        received = torch.where(sent.valid, received, sent.x)
        return batch.augmented(heard.replace(heard.x.index_copy(0, at, received)), rows)

    def decoded(self, x: Tensor, law: Law) -> Tensor:
        """What is left of samples: (K, N) -> (K, N)."""
        squeezed = squeeze(x.abs().clamp(max=1.0), law)
        return x.sign() * expand((squeezed * self.steps).round() / self.steps, law)


def squeeze(x: Tensor, law: Law) -> Tensor:
    """Sizes in [0, 1] on the curve, in [0, 1]."""
    match law:
        case Law.mu:
            return torch.log1p(MU * x) / log1p(MU)
        case Law.a:
            return torch.where(x < 1 / A, A * x, 1 + (A * x).clamp(min=1.0).log()) / (1 + log(A))


def expand(y: Tensor, law: Law) -> Tensor:
    """The inverse of `squeeze`."""
    match law:
        case Law.mu:
            return torch.expm1(y * log1p(MU)) / MU
        case Law.a:
            z = y * (1 + log(A))
            return torch.where(z < 1, z, (z - 1).exp()) / A
