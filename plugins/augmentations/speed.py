from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional as F
from torchaudio.transforms import Resample

from research.contracts import Augmentation, Batch, Seq
from research.errors import HarkError
from research.nn.augment import check_prob, chosen
from research.registry import register

WIDTH = 64  # zero crossings of the sinc on each side
ROLLOFF = 0.945  # where it cuts off, as a share of the Nyquist frequency


@register("speed")
class Speed(Augmentation):
    """Play some utterances faster or plainer, tempo and pitch together (Ko et al., Interspeech 2015).

    A chosen row draws one of `factors`, each as likely: n samples become ceil(n / factor), and a tone of f Hz one of
    f * factor Hz. They are resampled by a Kaiser-windowed sinc that has faded out below the Nyquist frequency, so
    nothing aliases. What is heard has lengths of its own: for tasks with labels of the utterance or of tokens only.
    """

    keeps_time = False

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        factors: list[float] = field(
            default_factory=lambda: [0.95, 0.975, 1.0, 1.025, 1.05]
        )  # of which one is drawn

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        if not cfg.factors or min(cfg.factors) < 0.5 or max(cfg.factors) > 2.0:
            raise HarkError(f"augmentation.factors={cfg.factors}: name at least one, each between 0.5 and 2")
        self.cfg = cfg
        self.ratios = [Fraction(factor).limit_denominator(100) for factor in cfg.factors]
        with torch.device("cpu"):  # where torchaudio makes a part of its kernels whatever the default is
            self.resample = nn.ModuleList(
                Resample(r.numerator, r.denominator, "sinc_interp_kaiser", WIDTH, ROLLOFF)
                for r in self.ratios
            )

    def forward(self, batch: Batch) -> Batch:
        heard = batch.noisy
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,)
        draw = torch.randint(len(self.ratios), (len(rows),))  # (K,)
        groups = [rows[(draw == i) & (ratio != 1)] for i, ratio in enumerate(self.ratios)]
        changed = torch.cat(groups)
        if len(changed) == 0:
            return batch
        lengths = heard.lengths.clone()  # (B,)
        for group, ratio in zip(groups, self.ratios, strict=True):
            lengths[group] = -(-lengths[group] * ratio.denominator // ratio.numerator)
        size = int(lengths.max())
        x = F.pad(heard.x, (0, size - heard.x.size(1)))  # (B, N')
        for group, resample in zip(groups, self.resample, strict=True):
            if len(group) > 0:
                at = group.to(x.device, non_blocking=True)
                plain = Seq(heard.x[at], heard.lengths[group])  # (K', N)
                played = resample(plain.x * plain.valid)  # (K', N'')
                played = F.pad(played, (0, size - played.size(1)))  # (K', N')
                x = x.index_copy(0, at, played * Seq(played, lengths[group]).valid)
        return batch.augmented(Seq(x, lengths), changed)
