from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Augmentation, Batch, Seq
from research.errors import HarkError
from research.nn.augment import check_prob, check_range, chosen, pool, uniform
from research.registry import register


@register("mix")
class Mix(Augmentation):
    """Lay a piece of another utterance, or of noise, over a part of some utterances (WavLM, arXiv 2110.13900, III-B).

    Algorithm 1 of the paper: the piece is as long as one half of the utterance at most, and begins anywhere in both.
    Its level is of the mean energies of both signals whole, not of the parts that meet. Noise comes from the row's
    clip of the noise corpus; without one, every mix is speech. A source that is shorter than the piece repeats.
    """

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.2  # of an utterance to be chosen
        noise_prob: float = 0.1  # of a chosen one to get noise rather than speech
        speech_ratio: tuple[float, float] = (-5.0, 5.0)  # dB of the utterance over the other
        noise_ratio: tuple[float, float] = (-5.0, 20.0)  # dB of it over noise
        longest: float = 0.5  # share of the utterance that is mixed, at most

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        check_prob(cfg.noise_prob)
        check_range("speech_ratio", cfg.speech_ratio)
        check_range("noise_ratio", cfg.noise_ratio)
        if not 0 < cfg.longest <= 1:
            raise HarkError(f"augmentation.longest={cfg.longest:g}: a share is above 0 and at most 1")
        self.cfg = cfg

    def forward(self, batch: Batch) -> Batch:
        heard = batch.noisy
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,)
        if len(rows) == 0 or (len(heard.lengths) == 1 and batch.noise is None):
            return batch
        is_noise = self.noises(batch, len(rows))  # (K,)
        drawn = torch.rand(len(rows), len(heard.lengths)).scatter(1, rows[:, None], 2.0)  # (K, B)
        other = torch.where(is_noise, len(heard.lengths) + rows, drawn.argmin(1))  # (K,) rows of `sources`
        sources = heard if batch.noise is None else pool(heard, batch.noise)  # (R, N')
        ratio = torch.where(
            is_noise, uniform(self.cfg.noise_ratio, len(rows)), uniform(self.cfg.speech_ratio, len(rows))
        )  # (K,) dB
        at, other_at = (index.to(heard.x.device, non_blocking=True) for index in (rows, other))
        first, second = (
            Seq(heard.x[at], heard.lengths[rows]),
            Seq(sources.x[other_at], sources.lengths[other]),
        )
        level = (10 ** (-ratio / 20)).to(at.device, non_blocking=True)  # (K,)
        gain = level * (power(first) / power(second).clamp(min=1e-20)).sqrt()  # (K,)
        mixed = first.x + gain[:, None] * self.pieces(first, second)  # (K, N)
        return batch.augmented(heard.replace(heard.x.index_copy(0, at, mixed)), rows)

    def noises(self, batch: Batch, size: int) -> Tensor:
        """Which of the chosen rows get noise: (K,)."""
        if batch.noise is None:
            return torch.zeros(size, dtype=torch.bool)
        return (torch.rand(size) < self.cfg.noise_prob) | (len(batch.noisy.lengths) == 1)

    def pieces(self, first: Seq, second: Seq) -> Tensor:
        """What is laid over each row, before its gain: (K, N), of second (K, N')."""
        k, lengths, period = len(first.lengths), first.lengths, second.lengths.clamp(min=1)  # (K,)
        most = (lengths * self.cfg.longest).long().clamp(min=1)  # (K,)
        size = 1 + (torch.rand(k) * most).long().clamp(max=most - 1)  # (K,)
        start = (torch.rand(k) * (lengths - size + 1)).long()  # (K,)
        offset = (torch.rand(k) * (period - size + 1).clamp(min=1)).long()  # (K,)
        numbers = torch.stack([start, size, offset, period]).to(first.x.device, non_blocking=True)
        start, size, offset, period = numbers[..., None]  # (K, 1) each
        time = torch.arange(first.x.size(1), device=first.x.device) - start  # (K, N)
        inside = (time >= 0) & (time < size)  # (K, N)
        return second.x.gather(1, (offset + time.clamp(min=0)) % period) * inside


def power(x: Seq) -> Tensor:
    """Mean energy of a row's samples: (K, N) -> (K,)."""
    count = x.lengths.clamp(min=1).to(x.x.device, non_blocking=True)
    return (x.x * x.valid).square().sum(1) / count
