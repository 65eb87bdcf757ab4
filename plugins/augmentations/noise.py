from dataclasses import dataclass

import torch

from research.contracts import Augmentation, Batch, Seq
from research.nn.augment import check_prob, check_range, chosen, set_energy, uniform
from research.registry import register


@register("noise")
class Noise(Augmentation):
    """Add noise from the corpus of `data.noise` to some utterances, all along.

    A chosen row gets its clip from the first sample to the last, repeated where the clip is shorter. The
    signal-to-noise ratio is of energies over the samples of the utterance, padding left out. Rows that are not chosen
    stay bit-identical; so do all rows of a batch that has no clips.
    """

    needs_noise = True

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        snr: tuple[float, float] = (0.0, 15.0)  # dB, drawn uniformly

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        check_range("snr", cfg.snr)
        self.cfg = cfg

    def forward(self, batch: Batch) -> Batch:
        heard, clips = batch.noisy, batch.noise
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,)
        if clips is None or len(rows) == 0:
            return batch
        at = rows.to(heard.x.device, non_blocking=True)
        speech = Seq(heard.x[at], heard.lengths[rows])  # (K, N)
        period = clips.lengths[rows].clamp(min=1).to(at.device, non_blocking=True)  # (K,)
        time = torch.arange(heard.x.size(1), device=at.device) % period[:, None]  # (K, N)
        noise = clips.x[at].gather(1, time) * speech.valid  # (K, N)
        ratio = 10 ** (-uniform(self.cfg.snr, len(rows)) / 10)  # (K,)
        energy = (speech.x * speech.valid).square().sum(1) * ratio.to(at.device, non_blocking=True)  # (K,)
        mixed = speech.x + set_energy(noise, energy)  # (K, N)
        return batch.augmented(heard.replace(heard.x.index_copy(0, at, mixed)), rows)
