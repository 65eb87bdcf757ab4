"""What is trained: some layers of an encoder -> one representation -> a head -> a criterion."""

from collections.abc import Sequence
from typing import Any, Self

import torch

from research.classification.config import Classification, Tune
from research.contracts import Batch, Encoded, Loss, Seq, Task
from research.downstream import Aggregation, Criterion, Head
from research.errors import HarkError
from research.model import Upstream
from research.nn.spec_augment import SpecAugment
from research.registry import build


class Classifier(Task):
    """A supervised task on an upstream.

    A frozen upstream is held, not owned: no `train()`, no optimizer, no checkpoint and no gradient reaches it, so that
    dropout stays off and batch norm's statistics stay what they were. An encoder that is to be tuned is a part of this
    module; until step `tune.start` it is kept as if it were frozen.
    """

    def __init__(
        self,
        upstream: Upstream,
        layers: Sequence[int],
        *,
        aggregation: Aggregation,
        head: Head,
        criterion: Criterion,
        spec_augment: SpecAugment,
        tune: Tune,
    ) -> None:
        super().__init__()
        self.held = (upstream.eval(),)  # a tuple hides it from torch
        self.layers, self.spec_augment, self.tune = tuple(layers), spec_augment, tune
        self.aggregation, self.head, self.criterion = aggregation, head, criterion
        self.encoder = None if tune.start is None else upstream.encoder
        self.stages = () if tune.start is None else (tune.start,)
        self.tuning = False

    @property
    def upstream(self) -> Upstream:
        return self.held[0]

    def enter(self, step: int) -> None:
        if self.encoder is not None and self.tune.start is not None:
            self.tuning = step >= self.tune.start
            self.encoder.requires_grad_(self.tuning)
            if self.tuning:
                self.leave_unreached()
            self.train(self.training)

    def leave_unreached(self) -> None:
        """Train no parameter above the deepest layer that is read: DDP waits for a gradient of every other one."""
        assert self.encoder is not None
        self.encoder.eval()  # batch norm would remember this forward
        trained = list(self.encoder.parameters())
        if not trained:
            return
        second = Seq(torch.zeros(1, self.upstream.sample_rate), torch.tensor([self.upstream.sample_rate]))
        with torch.enable_grad():
            total = torch.stack([x.sum() for x in self.encode(second.to(trained[0].device)).layers]).sum()
            reached = torch.autograd.grad(total, trained, allow_unused=True)
        for parameter, gradient in zip(trained, reached, strict=True):
            parameter.requires_grad_(gradient is not None)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  torch's signature
        super().train(mode)
        if self.encoder is not None and not self.tuning:
            self.encoder.eval()
        return self

    def param_groups(self) -> list[dict[str, Any]]:
        """As in `Task`; what belongs to the encoder has its own learning rate."""
        encoder = set() if self.encoder is None else {id(p) for p in self.encoder.parameters()}
        groups = []
        for group in super().param_groups():
            inside = [p for p in group["params"] if id(p) in encoder]
            outside = [p for p in group["params"] if id(p) not in encoder]
            groups += [group | {"params": outside}]
            groups += [group | {"params": inside, "lr_scale": lambda _: self.tune.lr_scale}]
        return groups

    def forward(self, batch: Batch) -> Loss:
        """Score what is heard: the augmented signal in training, else the clean one."""
        assert batch.labels is not None
        loss: Loss = self.criterion(self.embed(batch.noisy if self.training else batch.audio), batch.labels)
        return loss

    def embed(self, audio: Seq) -> Seq:  # (B, N) -> (B, U, E)
        encoded = self.encode(audio)
        x = self.aggregation(encoded.layers)  # (B, T, C)
        h: Seq = self.head(encoded.last.replace(x))
        return h

    def encode(self, audio: Seq) -> Encoded:
        """Layers of the encoder (B, T, D) each; SpecAugment masks the frontend's frames in training, frozen or not."""
        masked = self.training and self.spec_augment.freq_masks + self.spec_augment.time_masks > 0
        with torch.set_grad_enabled(self.tuning and torch.is_grad_enabled()):
            if masked:
                feats = self.spec_augment(self.upstream.frontend(audio))  # (B, S, F)
                encoded: Encoded = self.upstream.encoder(feats, self.layers)
            else:
                encoded = self.upstream(audio, self.layers)
        return encoded


def classifier(cfg: Classification, upstream: Upstream, layers: Sequence[int], classes: int) -> Classifier:
    """Build the task of a run, its own weights drawn from `run.seed`."""
    torch.manual_seed(cfg.run.seed)
    aggregation = build(cfg.aggregation, dim_in=upstream.dim, layers=len(layers))
    head = build(cfg.head, dim_in=aggregation.dim)
    criterion = build(cfg.criterion, dim_in=head.dim, classes=classes)
    return Classifier(
        upstream,
        layers,
        aggregation=aggregation,
        head=head,
        criterion=criterion,
        spec_augment=cfg.spec_augment,
        tune=cfg.tune,
    )


@torch.no_grad()
def check_fit(cfg: Classification) -> None:
    """HarkError when a criterion that wants a vector per frame gets one per utterance, or the other way round."""
    dim, frames = 16, 24
    head = build(cfg.head, dim_in=dim).eval()
    criterion = build(cfg.criterion, dim_in=head.dim, classes=2)
    given = head(Seq(torch.zeros(1, frames, dim), torch.tensor([frames]))).x.size(1) > 1
    if given != criterion.frames:
        gives, wants = (
            "one vector per " + ("frame" if per else "utterance") for per in (given, criterion.frames)
        )
        other = "head=bilstm_ctc or another criterion" if criterion.frames else "head=linear or criterion=ctc"
        raise HarkError(
            f"head ({type(head).__name__}) gives {gives}, criterion ({type(criterion).__name__}) wants {wants}: type {other}"
        )
