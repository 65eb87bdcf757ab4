from dataclasses import dataclass, field

from torch import Tensor, nn

from research.contracts import Batch, Loss, Objective, Parts, Seq
from research.errors import HarkError
from research.nn.contrast import contrast
from research.nn.decoder import Decoder
from research.nn.functional import mask_ratio, select, silence, stack
from research.nn.linear import Linear
from research.nn.norm import BatchNorm, update_running
from research.nn.separable import Activation, Block
from research.nn.spec_augment import SpecAugment
from research.registry import register


@dataclass(kw_only=True)
class Closing:
    """The block of another width with which NeMo closes its convolutional encoders. Here the heads begin with it."""

    dim: int = 0  # 0: there is none
    kernel: int = 11  # frames, odd
    activation: Activation = Activation.relu


class MelObjective(Objective):
    """Tell a masked piece of the mel spectrogram from others of the utterance. Subclasses say what a target is.

    The encoder reads zeros where the mask is, and in bands of frequency beside it. A target is made of the clean
    frames of one piece, and counts when the mask covers it; utterances may have any number of them.
    """

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        hidden: int = 128  # of the heads
        upsample: int = 1  # targets per encoder frame, a power of two
        closing: Closing = field(default_factory=Closing)
        negatives: int = 100  # targets of the same utterance to tell it from
        temperature: float = 0.1  # that cosines are divided by
        threshold: float = 0.8  # a target counts when more than this share of its frames was masked
        freq_masks: int = 3  # bands of frequency
        freq_width: int = 20  # the most frontend channels in one of them

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts, layer: int | None = None) -> None:
        super().__init__(parts)
        self.cfg, depth, stride = cfg, self.encoder.depth, self.encoder.stride
        if cfg.upsample < 1 or cfg.upsample.bit_count() > 1 or stride % cfg.upsample:
            raise HarkError(f"objective.upsample={cfg.upsample}: choose a power of two that divides {stride}")
        if cfg.closing.kernel % 2 == 0:
            raise HarkError(f"objective.closing.kernel={cfg.closing.kernel}: choose an odd number of frames")
        if layer is not None and not 1 <= layer <= depth:
            raise HarkError(f"objective.layer={layer}: choose one of the encoder's layers, 1 to {depth}")
        self.layer = depth if layer is None else layer
        self.piece = stride // cfg.upsample  # frames in a target
        self.bands = SpecAugment(freq_masks=cfg.freq_masks, freq_width=cfg.freq_width, time_masks=0)
        self.heads = nn.ModuleDict()
        if cfg.closing.dim > 0:
            self.heads["closing"] = Block(
                self.encoder.dim, cfg.closing.dim, cfg.closing.kernel, cfg.closing.activation
            )

    def forward(self, batch: Batch) -> Loss:
        clean, noisy = self.features(batch)  # (B, S, F)
        mask = self.masking(clean.lengths, clean.x.size(1))  # (B, S)
        hit = stack(mask[..., None].float(), self.piece).mean(-1) > self.cfg.threshold  # (B, U)
        x = select(stack(clean.x, self.piece), hit)  # (M, piece * F)
        h = self.encoder(self.hide(self.bands(noisy), mask), (self.layer,))
        last = self.close(h.last)  # (B, T, D')
        tap = last if self.layer == self.encoder.depth else h.last.replace(h.layers[0])
        return self.compare(x, tap, last, hit).noting(mask_ratio(mask, clean.lengths))

    def fill(self, x: Seq, mask: Tensor) -> Seq:  # (B, S, F), (B, S)
        return silence(x, mask)

    def close(self, x: Seq) -> Seq:  # (B, T, D) -> (B, T, D')
        return x.replace(self.heads["closing"](x.x, x.valid)) if "closing" in self.heads else x

    def compare(self, x: Tensor, tap: Seq, last: Seq, hit: Tensor) -> Loss:
        """Frames of the targets (M, piece * F), what the heads read (B, T, D'), and which targets they are (B, U)."""
        raise NotImplementedError

    def contrast(self, c: Tensor, y: Tensor, hit: Tensor, ids: Tensor | None = None) -> Loss:
        k, t = self.cfg.negatives, self.cfg.temperature
        return contrast(c, y, hit.sum(1), negatives=k, temperature=t, ids=ids)

    def on_step_end(self, step: int) -> None:
        update_running([module for module in self.heads.modules() if isinstance(module, BatchNorm)])


@register("mel_contrast")
class MelContrast(MelObjective):
    """Tell a masked piece of the mel spectrogram, linearly projected, from others of the utterance.

    Nothing is quantized: `quantizer` is not read.
    """

    example = (
        "encoder=fastconformer_tiny",
        "encoder.stride=4",
        "masking.length=16",
        "objective.negatives=10",
    )

    @dataclass(kw_only=True)
    class Config(MelObjective.Config):
        dim: int = 128  # in which prediction and target are compared

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        width = cfg.closing.dim or self.encoder.dim
        self.heads["contrast"] = Decoder(width, cfg.hidden, cfg.dim, cfg.upsample)
        self.target = Linear(self.frontend.dim * self.piece, cfg.dim)

    def compare(self, x: Tensor, tap: Seq, last: Seq, hit: Tensor) -> Loss:
        return self.contrast(self.heads["contrast"](tap, hit), self.target(x), hit)
