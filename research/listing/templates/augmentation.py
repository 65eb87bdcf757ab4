from dataclasses import dataclass

import torch

from research.contracts import Augmentation, Batch, Seq
from research.nn.augment import check_prob, check_range, chosen, set_energy, uniform
from research.registry import register


@register("starter")
class Starter(Augmentation):
    """Say here what the student hears, and from which paper (arXiv id). As it is: white noise on some utterances."""

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        snr: tuple[float, float] = (5.0, 20.0)  # dB, drawn uniformly

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        check_range("snr", cfg.snr)
        self.cfg = cfg

    def forward(self, batch: Batch) -> Batch:
        heard = batch.noisy  # not `audio`: another augmentation may have been there before
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,) on the host
        if len(rows) == 0:
            return batch
        at = rows.to(heard.x.device, non_blocking=True)
        speech = Seq(heard.x[at], heard.lengths[rows])  # (K, N)
        ratio = 10 ** (-uniform(self.cfg.snr, len(rows)) / 10)  # (K,) of energies
        energy = (speech.x * speech.valid).square().sum(1) * ratio.to(at.device, non_blocking=True)  # (K,)
        noise = set_energy(torch.randn_like(speech.x) * speech.valid, energy)  # (K, N)
        return batch.augmented(heard.replace(heard.x.index_copy(0, at, speech.x + noise)), rows)
