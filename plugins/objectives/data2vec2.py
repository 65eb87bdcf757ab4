from dataclasses import dataclass, field
from enum import Enum

from torch import Tensor

from plugins.objectives.data2vec import Data2Vec
from research.contracts import Batch, Loss, Parts, Seq
from research.errors import HarkError
from research.nn.conv_decoder import ConvDecoder, DecoderConfig
from research.nn.functional import mask_ratio, noise, select
from research.nn.kept import kept, put_back
from research.nn.regression import regress
from research.registry import preset, register
from research.schedules import Ramp


class Masked(Enum):
    """What becomes of masked frames before the encoder reads an utterance."""

    dropped = "dropped"  # they are left out: the encoder reads a shorter sequence
    filled = "filled"  # noise is put in their place


@register("data2vec2")
class Data2Vec2(Data2Vec):
    """Data2vec with several masks for each utterance, whose targets are computed once (arXiv 2212.07525).

    What a small convolutional decoder makes of the encoder's output predicts the targets. In the paper the encoder reads
    only the frames that are left, and the decoder noise in between: `masked=dropped`, in the presets.

    The paper adds positions before it drops frames. Here those that are left move together, so an encoder's positions
    and convolutions take them for neighbours. `masked=filled` leaves all in place, at the cost of whole sequences.
    """

    example = (
        "encoder=fastconformer_tiny",
        "encoder.stride=4",
        "quantizer=none",
        "masking=inverse_block",
        "objective.layers=2",
        "objective.copies=2",
        "objective.keep.steps=10",
        "objective.decoder.dim=32",
        "objective.decoder.depth=2",
        "objective.decoder.kernel=3",
        "objective.decoder.groups=4",
    )

    @dataclass(kw_only=True)
    class Config(Data2Vec.Config):
        copies: int = 8  # masks of each utterance
        masked: Masked = Masked.filled
        noise: float = 0.01  # standard deviation of what stands for a masked frame
        decoder: DecoderConfig = field(default_factory=DecoderConfig)
        keep: Ramp = field(default_factory=lambda: Ramp(start=0.999, end=0.99999, steps=75_000))

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        refuse(cfg, self.encoder.dim)
        del self.mask_token, self.head
        self.decoder = ConvDecoder(self.encoder.dim, cfg.decoder)

    def forward(self, batch: Batch) -> Loss:
        clean, noisy = self.features(batch)  # (B, S, F)
        z = self.encoder.embed(noisy)  # (B, T, D)
        y = self.targets(z if noisy is clean else self.encoder.embed(clean))  # (B, T, D)
        copies = self.cfg.copies  # C
        x = Seq(z.x.repeat_interleave(copies, 0), z.lengths.repeat_interleave(copies))  # (B C, T, D)
        mask = self.masking(x.lengths, x.x.size(1))  # (B C, T)
        predicted = self.decoder(self.encode(self.hide(x, mask), mask), mask)  # (M, D)
        loss = regress(predicted, select(y.repeat_interleave(copies, 0), mask), self.cfg.beta)
        return loss.noting(mask_ratio(mask, x.lengths))

    def encode(self, x: Seq, mask: Tensor) -> Seq:
        """Make what the decoder reads: (B C, T, D), bool (B C, T) -> (B C, T, D)."""
        if self.cfg.masked is Masked.filled:
            return self.encoder.context(x).last
        h = self.encoder.context(kept(x, mask)).last  # (B C, K, D)
        return self.fill(x.replace(put_back(h.x, mask)), mask)

    def fill(self, x: Seq, mask: Tensor) -> Seq:  # (B C, T, D), (B C, T)
        return noise(x, mask, self.cfg.noise)


def refuse(cfg: Data2Vec2.Config, dim: int) -> None:
    """Raise HarkError for settings that cannot work."""
    if cfg.copies < 1 or cfg.decoder.depth < 1:
        raise HarkError("objective.copies and objective.decoder.depth are at least 1")
    if dim % cfg.decoder.groups or cfg.decoder.dim % cfg.decoder.groups:
        raise HarkError(
            f"objective.decoder.groups={cfg.decoder.groups}: divides not both encoder.dim={dim} and "
            f"objective.decoder.dim={cfg.decoder.dim}; choose another"
        )


preset("data2vec2_base", Data2Vec2.Config(masked=Masked.dropped))
preset(
    "data2vec2_large",
    Data2Vec2.Config(
        layers=16,
        copies=12,
        masked=Masked.dropped,
        keep=Ramp(start=0.9997, end=1.0, steps=300_000),
        decoder=DecoderConfig(dim=768),
    ),
)
