from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from research.contracts import Augmentation, Batch
from research.nn.augment import check_range, set_energy, uniform
from research.registry import preset, register


class Over(Enum):
    mixed = "mixed"  # the signal-to-noise ratio holds where there is noise
    clip = "clip"  # energies over the whole clip, as NeMo: 3 dB lower inside when half of it is mixed


@register("speaker_noise")
class SpeakerNoise(Augmentation):
    """Mix noise or other utterances of the batch into a part of some utterances (NEST, arXiv 2408.13106, 2.3).

    A chosen row gets `segments` stretches, left to right at random places, `mix_rate` of its length together. They
    come from the row's clip of the noise corpus (consecutive pieces) or from `speakers` other rows (random crops, in
    turn); sources that are too short repeat. Without a noise corpus every mix is speech. All other rows, and all
    samples outside the stretches, stay bit-identical to the clean signal; lengths never change.
    """

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        noise_ratio: float = 0.5  # of a chosen one to get noise rather than speech
        speech_snr: tuple[float, float] = (-5.0, 5.0)  # dB
        noise_snr: tuple[float, float] = (-5.0, 20.0)  # dB
        mix_rate: tuple[float, float] = (0.5, 0.5)  # share of the utterance that is mixed
        segments: tuple[int, int] = (1, 1)  # stretches of noise in an utterance, fewest and most
        speakers: tuple[int, int] = (1, 1)  # other utterances that they are of, fewest and most
        snr_over: Over = Over.mixed

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        for name in ("speech_snr", "noise_snr", "mix_rate", "segments", "speakers"):
            check_range(name, getattr(cfg, name))
        self.cfg = cfg

    def forward(self, batch: Batch) -> Batch:
        rows = (torch.rand(len(batch.noisy.lengths)) < self.cfg.prob).nonzero()[:, 0]  # (K,)
        others = len(batch.noisy.lengths) > 1
        if batch.noise is None and not others:
            rows = rows[:0]
        if len(rows) == 0:
            return batch
        is_noise = torch.full((len(rows),), batch.noise is not None)  # (K,)
        if others:
            is_noise &= torch.rand(len(rows)) < self.cfg.noise_ratio
        clean = batch.noisy.x[rows.to(batch.noisy.x.device, non_blocking=True)]  # (K, N)
        mixed = clean + self.interference(batch, rows, clean, is_noise)  # (K, N)
        noisy = batch.noisy.x.index_copy(0, rows.to(clean.device, non_blocking=True), mixed)  # (B, N)
        return batch.augmented(batch.noisy.replace(noisy), rows)

    def interference(self, batch: Batch, rows: Tensor, clean: Tensor, is_noise: Tensor) -> Tensor:
        """What is added to the chosen rows, at its level: (K, N)."""
        starts, sizes = self.stretches(batch.noisy.lengths[rows])  # (K, J)
        added, inside = torch.zeros_like(clean), torch.zeros_like(clean, dtype=torch.bool)
        plan = torch.stack([starts, sizes, *self.sources(batch, rows, is_noise, sizes)], dim=-1)  # (K, J, 5)
        for k, stretches in enumerate(plan.tolist()):
            heard = batch.noise if batch.noise is not None and is_noise[k] else batch.noisy
            for start, size, source, offset, period in stretches:
                added[k, start : start + size] = repeating(heard.x[source, :period], offset, size)
                inside[k, start : start + size] = True
        snr = torch.where(
            is_noise, uniform(self.cfg.noise_snr, len(rows)), uniform(self.cfg.speech_snr, len(rows))
        ).to(clean.device, non_blocking=True)  # (K,) dB
        signal = clean * inside if self.cfg.snr_over is Over.mixed else clean  # (K, N)
        wanted = signal.square().sum(1) * 10 ** (-snr / 10)  # (K,)
        return set_energy(added, wanted)

    def stretches(self, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Starts and sizes of the stretches of each row, (K, J) each; unused ones have size 0."""
        low, high = self.cfg.segments
        count = torch.randint(low, high + 1, (len(lengths),))  # (K,)
        total = (lengths * uniform(self.cfg.mix_rate, len(lengths))).long().clamp(min=1)  # (K,)
        total = torch.minimum(total, lengths)
        rest, sizes = total.clone(), torch.zeros(len(lengths), high, dtype=torch.long)
        for j in range(high):  # throw the samples into the stretches, each as likely
            share = 1.0 / (count - j).clamp(min=1)  # (K,)
            sizes[:, j] = torch.binomial(rest.float(), share).long().clamp(max=rest) * (j < count)
            rest -= sizes[:, j]
        used = torch.arange(high) < count[:, None]  # (K, J)
        gaps = (torch.rand(len(lengths), high) * (lengths - total + 1)[:, None]).long()  # (K, J)
        gaps = gaps.masked_fill(~used, int(lengths.max())).sort(dim=1).values  # (K, J)
        return gaps + sizes.cumsum(1) - sizes, sizes

    def sources(
        self, batch: Batch, rows: Tensor, is_noise: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Row, offset and period of what each stretch plays, of the noise or of the other utterances: (K, J) each."""
        audio, k, j = batch.noisy, len(rows), sizes.size(1)
        low, high = self.cfg.speakers
        b = len(audio.lengths)
        voices = torch.randint(low, high + 1, (k, 1)).clamp(max=max(1, b - 1))  # (K, 1)
        draw = torch.rand(k, b).scatter(1, rows[:, None], 2.0)  # (K, B) never the row itself, unless alone
        speaker = draw.argsort(1).gather(1, torch.arange(j).expand(k, j) % voices)  # (K, J)
        period = audio.lengths[speaker].clamp(min=1)  # (K, J)
        offset = (torch.rand(k, j) * (period - sizes + 1).clamp(min=1)).long()  # (K, J)
        if batch.noise is None:
            return speaker, offset, period
        own = batch.noise.lengths[rows, None].clamp(min=1).expand(k, j)  # (K, J)
        pick = is_noise[:, None]
        offset = torch.where(pick, (sizes.cumsum(1) - sizes) % own, offset)
        return torch.where(pick, rows[:, None], speaker), offset, torch.where(pick, own, period)


def repeating(x: Tensor, offset: int, size: int) -> Tensor:
    """`size` samples of (N,) from `offset` on, again and again from its start: (size,)."""
    end = offset + size
    return x.repeat(-(-end // len(x)))[offset:end] if end > len(x) else x[offset:end]


preset("nest_paper", SpeakerNoise.Config(prob=0.2, noise_ratio=0.1))
