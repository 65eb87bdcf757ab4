from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Augmentation, Batch, Seq
from research.errors import HarkError
from research.nn.augment import check_prob, check_range, chosen, uniform
from research.registry import preset, register


@register("band_limit")
class BandLimit(Augmentation):
    """Take the lows, the highs or both out of some utterances, as cheap microphones, telephones and old archives do.

    A chosen row draws a lower and an upper edge, where it has lost 3 dB; outside it falls by 6 dB an octave for each
    `order`: a Butterworth filter's gain. The filter has no phase, so that nothing moves in time. An edge of 0 Hz, or
    of half the sample rate, cuts nothing. What would ring on beyond an utterance is dropped.
    """

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        low: tuple[float, float] = (0.0, 400.0)  # Hz, drawn uniformly
        high: tuple[float, float] = (2000.0, 7000.0)  # Hz, drawn uniformly
        order: int = 8  # of the filter
        sample_rate: int = 16_000  # Hz

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        check_range("low", cfg.low)
        check_range("high", cfg.high)
        if not 0 <= cfg.low[1] < cfg.high[0] or cfg.low[0] < 0:
            raise HarkError(
                f"augmentation.low={list(cfg.low)}, augmentation.high={list(cfg.high)}: every lower edge is at least 0 "
                "Hz, and below every upper one"
            )
        if cfg.order < 1:
            raise HarkError(f"augmentation.order={cfg.order}: a filter has at least order 1")
        self.cfg = cfg

    def forward(self, batch: Batch) -> Batch:
        heard = batch.noisy
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,)
        if len(rows) == 0:
            return batch
        at = rows.to(heard.x.device, non_blocking=True)
        wide = Seq(heard.x[at], heard.lengths[rows])  # (K, N)
        narrow = self.limit(wide.x * wide.valid)  # (K, N)
        narrow = torch.where(wide.valid, narrow, wide.x)
        return batch.augmented(heard.replace(heard.x.index_copy(0, at, narrow)), rows)

    def limit(self, x: Tensor) -> Tensor:
        """(K, N) -> (K, N). Twice the samples leave room to ring where no other sample is."""
        size = 1 << (2 * x.size(1) - 1).bit_length()
        return torch.fft.irfft(torch.fft.rfft(x, size) * self.gain(len(x), size, x.device), size)[
            :, : x.size(1)
        ]

    def gain(self, rows: int, size: int, device: torch.device) -> Tensor:
        """A filter for each row: (K, size // 2 + 1)."""
        cfg = self.cfg
        hz = torch.fft.rfftfreq(size, 1 / cfg.sample_rate, device=device)  # (bins,)
        low, high = (
            uniform(edges, rows).to(device, non_blocking=True)[:, None] for edges in (cfg.low, cfg.high)
        )  # (K, 1) each
        open_end = high >= cfg.sample_rate / 2  # (K, 1)
        above = (hz / high).pow(2 * cfg.order).masked_fill(open_end, 0.0)  # (K, bins)
        below = (low / hz.clamp(min=1e-3)).pow(2 * cfg.order)  # (K, bins)
        return ((1 + above) * (1 + below)).rsqrt()


preset("telephone", BandLimit.Config(low=(300.0, 300.0), high=(3400.0, 3400.0)))
