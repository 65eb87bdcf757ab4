from dataclasses import dataclass

import torch

from plugins.masking.span import Span
from research.contracts import Seq
from research.errors import HarkError
from research.registry import preset, register


@register("channel")
class Channel(Span):
    """Spans of frames, and spans of whole channels: each row hides some of its own in all of its frames.

    wav2vec 2.0's fine-tuning (arXiv 2006.11477, section 4.3), SpecAugment's bands (arXiv 1904.08779) and TERA's (arXiv
    2007.06028). A row of C channels gets `channel_prob * C / channel_length` spans, the fraction rounded up with its
    own probability; they may overlap, and hold zeros: the mean, where features are normalised.
    """

    @dataclass(kw_only=True)
    class Config(Span.Config):
        channel_prob: float = 0.25  # share of channels that the spans would cover without overlap
        channel_length: int = 10  # channels

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        if not 0 <= cfg.channel_prob <= 1:
            raise HarkError(
                f"masking.channel_prob={cfg.channel_prob:g}: a share of channels is between 0 and 1"
            )
        if cfg.channel_length < 1:
            raise HarkError(f"masking.channel_length={cfg.channel_length}: a span has at least one channel")
        self.across = Span(Span.Config(prob=cfg.channel_prob, length=cfg.channel_length, least=0))

    def channels(self, x: Seq) -> Seq:
        rows, _, dim = x.x.shape
        if dim < self.across.cfg.length:
            raise HarkError(
                f"masking.channel_length={self.across.cfg.length}: what is masked has {dim} channels; type fewer"
            )
        hidden = self.across(torch.full((rows,), dim), dim).to(x.x.device, non_blocking=True)  # (B, C)
        return x.replace(x.x.masked_fill(hidden[:, None] & x.valid[..., None], 0.0))  # (B, T, C)


preset("channel_wide", Channel.Config(channel_prob=0.5, channel_length=64))
