"""What plugins are, and the tensors that flow between them. Imports torch only. `downstream` has those that use features.

Shape letters, used everywhere:
  B batch   N samples   S frontend frames   T encoder frames   M masked frames of the batch, flattened
  F frontend dim   D encoder dim   G codebooks   V codes per book

Lengths and masks live on the host: sizes are decided there, so no step waits for the device to tell one.
Randomness comes from torch's default generators; the loop seeds them for every batch of every step.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


def identity(value: Tensor) -> Tensor:
    return value


@dataclass
class Seq:
    """A padded batch of sequences."""

    x: Tensor  # (B, T, C), or (B, N) for audio
    lengths: Tensor  # (B,) int64, on the host

    @property
    def valid(self) -> Tensor:
        """True on real frames, False on padding: bool (B, T), on the device of `x`."""
        device = self.x.device
        return (
            torch.arange(self.x.size(1), device=device) < self.lengths.to(device, non_blocking=True)[:, None]
        )

    def replace(self, x: Tensor) -> "Seq":
        """The same lengths around other values."""
        return Seq(x, self.lengths)

    def to(self, device: torch.device) -> "Seq":
        return Seq(self.x.to(device, non_blocking=True), self.lengths)


@dataclass
class Batch:
    """What the data layer gives and an augmentation completes."""

    audio: Seq  # (B, N) clean
    noisy: Seq  # (B, N) what the student hears; the same object as `audio` when nothing augments it
    changed: Tensor  # (K,) int64, on the host: the rows in which `noisy` differs from `audio`
    noise: Seq | None = None  # (B, N') one clip of the noise corpus per row, when there is one
    labels: Seq | None = (
        None  # (B, U, G) int64 targets that were given: of frames, tokens, or the utterance (U = 1)
    )
    ids: list[str] = field(default_factory=list)  # B utterance names
    texts: list[str] = field(default_factory=list)  # B transcripts, when the task wants them

    @classmethod
    def clean(cls, audio: Seq, **extra: Any) -> "Batch":
        """A batch that nothing has augmented."""
        return cls(audio, audio, torch.zeros(0, dtype=torch.long), **extra)

    def augmented(self, noisy: Seq, rows: Tensor) -> "Batch":
        """The same batch after some rows (K,) of `noisy` were changed; rows that were listed before stay listed."""
        return replace(self, noisy=noisy, changed=torch.cat([self.changed, rows]).unique())

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same around other values, such as copies elsewhere; what lives on the host stays as it is."""
        audio = self.audio.replace(change(self.audio.x))
        noisy = audio if self.noisy is self.audio else self.noisy.replace(change(self.noisy.x))
        noise = None if self.noise is None else self.noise.replace(change(self.noise.x))
        labels = None if self.labels is None else self.labels.replace(change(self.labels.x))
        return Batch(audio, noisy, self.changed, noise, labels, self.ids, self.texts)

    def to(self, device: torch.device) -> "Batch":
        return self.map(lambda x: x.to(device, non_blocking=True))


@dataclass
class Encoded:
    last: Seq  # (B, T, D)
    layers: list[Tensor] = field(default_factory=list)  # the depths that were asked for, each (B, T, D)


@dataclass
class Codes:
    ids: Tensor  # (..., G) int64
    vectors: Tensor | None = None  # (..., C), when the quantizer has embeddings
    drawn: Tensor | None = None  # (..., G) int64 the codes of `vectors`, when these were drawn at random
    penalty: Tensor | None = (
        None  # scalar, a mean over inputs (commitment) or of all of them together (diversity)
    )

    @property
    def chosen(self) -> Tensor:
        """The codes of `vectors`: (..., G)."""
        return self.ids if self.drawn is None else self.drawn


@dataclass
class Stat:
    """One metric of one batch, on one rank. The core sums both parts over steps and ranks, then finishes."""

    total: Tensor
    weight: float = 1.0
    finish: Callable[[Tensor], Tensor] = identity  # mean -> the number to log


@dataclass
class Loss:
    """A SUM over `count` targets: the core divides by the global count, so batches of any size weigh right.

    One term may be no sum: a quantizer's penalty on how a micro-batch uses its codes. It is added times `count`.
    """

    total: Tensor  # scalar
    count: int
    stats: dict[str, Stat] = field(default_factory=dict)

    def noting(self, stats: dict[str, Stat]) -> "Loss":
        """Log more beside it."""
        return Loss(self.total, self.count, self.stats | stats)

    def plus(self, other: "Loss", weight: float = 1.0) -> "Loss":
        """Add a weighted term that was summed over the same targets."""
        return Loss(self.total + weight * other.total, self.count, self.stats | other.stats)


class Plugin(nn.Module):
    """A component that a config names. Subclasses add `Config`, and one `__init__(cfg, *, runtime facts)`."""

    kind: ClassVar[str]
    example: ClassVar[tuple[str, ...]] = ()  # overrides that make a small run work: the shared tests use them

    @dataclass(kw_only=True)
    class Config:
        pass

    def on_step_end(self, step: int) -> None:
        """Run once after every optimizer step, on every plugin in the model: EMA, temperature, codebooks.

        Where ranks share parameters, these still act as whole ones; but each is to be changed all at once (`copy_`,
        `lerp_`, `mul_`), for a piece of it (`p[0] = x`) may lie on another rank: HarkError. Buffers are whole.
        """


class Frontend(Plugin):
    kind = "frontend"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    dim: int  # F
    hop: int  # samples per frame
    sample_rate: int  # Hz

    def forward(self, audio: Seq) -> Seq:  # (B, N) -> (B, S, F)
        raise NotImplementedError


class Encoder(Plugin):
    """Made with the fact `dim_in` (F).

    The blocks in its `nn.ModuleList`s are called, and read by nobody else: ranks that share a model hold all of a
    block's weights only while it is called.
    """

    kind = "encoder"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    dim: int  # D
    depth: int  # number of layers
    stride: int  # S / T, rounded up
    ahead: int | None = None  # how many frames (of T) a frame hears ahead, at most; None: all of them

    def embed(self, feats: Seq) -> Seq:  # (B, S, F) -> (B, T, D)
        raise NotImplementedError

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        """(B, T, D) -> Encoded. Layer 0 is what the first block reads, layer k what block k gives."""
        raise NotImplementedError

    def forward(self, feats: Seq, layers: Sequence[int] = ()) -> Encoded:
        return self.context(self.embed(feats), layers)


class Quantizer(Plugin):
    """Made with the fact `dim_in`."""

    kind = "quantizer"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    books: int  # G
    codes: int  # V
    dim: int  # C of `vectors`; 0: it gives none
    online: bool = False  # whether its `codebook` moves in `on_step_end`, after the inputs

    def forward(self, x: Tensor) -> Codes:  # (..., dim_in) -> ids (..., G)
        raise NotImplementedError

    def refit(self) -> None:
        """Begin anew where it is fitted rather than trained: from now on it reads other features.

        An objective calls it in its `on_step_end`, which comes before the quantizer's own.
        """


class Masking(Plugin):
    kind = "masking"
    hides: ClassVar[bool] = True  # False: it masks nothing

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        """(B,) -> bool (B, size) on the host, False on padding; every row that can hold a block has one."""
        raise NotImplementedError

    def channels(self, x: Seq) -> Seq:
        """Hide whole channels of what has been masked, (B, T, C) -> (B, T, C): none, unless a plugin does."""
        return x


class Augmentation(Plugin):
    """Change rows of `batch.noisy`, on the device, and list them; never touch `batch.audio`.

    It starts from `noisy`, not from `audio`: another augmentation may have been there before.
    """

    kind = "augmentation"
    keeps_time: bool = True  # False: `noisy` has lengths of its own, which only supervised tasks can use
    needs_noise: bool = False  # True: it does nothing without a noise corpus

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    def forward(self, batch: Batch) -> Batch:
        raise NotImplementedError


@dataclass
class Parts:
    """What the core hands to an objective. It makes its own quantizers, for only it knows what they quantize."""

    frontend: Frontend
    encoder: Encoder
    masking: Masking
    quantizer: Callable[[int], Quantizer]  # input dim -> a new quantizer


class Task(Plugin):
    """What the training loop trains: batches in, a loss out."""

    stages: tuple[int, ...] = ()  # steps at which other parameters begin to be trained
    wants: tuple[str, ...] = ()  # what lines of the manifest have to give: "labels" of frames, "text"
    classes: int = 0  # that labels of frames are below, where it wants them

    def initialised(self, names: Collection[str]) -> None:
        """Run after `init=` put other weights under these names, before any step: derive from them what has none."""

    def enter(self, step: int) -> None:
        """Run before the first step of a process and before that of each stage: say which parameters are trained."""

    def forward(self, batch: Batch) -> Loss:
        raise NotImplementedError

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups. `lr_scale(step)` multiplies the schedule; 0 freezes. Vectors are not decayed."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1]},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]


class Use(Enum):
    """What an objective does with a part that can be left out."""

    must = "must"
    may = "may"
    never = "never"


class Objective(Task):
    """A whole SSL method: owns every trained part; `forward` reads like the paper's algorithm box.

    Made with the fact `parts`. A combination that cannot work is refused in `__init__`, which the core runs on
    torch's meta device when the config is composed: raise `HarkError` with the reason and what to type instead.
    """

    kind = "objective"
    masks: Use = Use.must  # whether it asks `masking` for masks
    mask_token: nn.Module  # Seq (B, T, C), mask (B, T) -> Seq (B, T, C); or override `fill`

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.frontend, self.encoder, self.masking = parts.frontend, parts.encoder, parts.masking

    def features(self, batch: Batch) -> tuple[Seq, Seq]:
        """The frontend's frames of the clean and of the noisy signal; rows that are equal are computed once."""
        clean = self.frontend(batch.audio)  # (B, S, F)
        if len(batch.changed) == 0:
            return clean, clean
        rows = batch.changed.to(clean.x.device, non_blocking=True)  # (K,)
        some = self.frontend(
            Seq(batch.noisy.x[rows], batch.noisy.lengths[batch.changed])
        )  # (K, S', F), S' <= S
        noisy = clean.x.clone()  # (B, S, F)
        noisy[rows, : some.x.size(1)] = some.x
        return clean, clean.replace(noisy)

    def fill(self, x: Seq, mask: Tensor) -> Seq:
        """Put what the method puts on masked frames: (B, T, C), bool (B, T) on the host -> (B, T, C)."""
        filled: Seq = self.mask_token(x, mask)
        return filled

    def hide(self, x: Seq, mask: Tensor) -> Seq:
        """What the encoder reads: `fill`, and whole channels hidden where the masking has it so."""
        return self.masking.channels(self.fill(x, mask))
