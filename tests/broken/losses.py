"""NEST, broken in one way each: the loss as a sum, targets, seeds."""

from dataclasses import dataclass, replace

import torch

from plugins.objectives.nest import NEST
from plugins.objectives.wav2vec2 import Wav2Vec2
from research.contracts import Loss, Masking, Seq, Stat
from research.nn.functional import masked_ce, select, stack
from tests.broken import breaks


@breaks("loss_is_a_sum__mean")
class Averages(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total / max(loss.count, 1))


@breaks("loss_is_a_sum__no_count")
class ForgetsToCount(NEST):
    def forward(self, batch):
        return replace(super().forward(batch), count=1)


@breaks("loss_is_a_sum__zero_count")
class CountsNothing(NEST):
    def forward(self, batch):
        return replace(super().forward(batch), count=0)


@breaks("loss_is_a_sum__rows_mix")
class MixesRows(NEST):
    """What batch statistics do in evaluation too."""

    def fill(self, feats, mask):
        return super().fill(feats.replace(feats.x + feats.x[:, :1].mean(0)), mask)


@breaks("loss_is_a_sum__gradient")
class ScalesGradients(NEST):
    """The right number with a gradient that knows the batch."""

    def forward(self, batch):
        loss = super().forward(batch)
        share = loss.total / len(batch.audio.lengths)
        return replace(loss, total=share + (loss.total - share).detach())


@breaks("loss_is_a_sum__stat")
class LogsAMean(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        mean = loss.total.detach() / max(loss.count, 1)
        return replace(loss, stats=loss.stats | {"ce": Stat(mean, loss.count)})


@breaks("padding_changes_nothing__penalty")
class PenalizesPadding(Wav2Vec2):
    """The penalty may see a batch as a whole, but not how wide it is."""

    example = Wav2Vec2.example

    @dataclass(kw_only=True)
    class Config(Wav2Vec2.Config):
        pass

    def compare(self, batch):
        loss, h, codes, mask = super().compare(batch)
        width = batch.audio.x.size(1) / 16_000
        return loss.plus(Loss(codes.penalty * loss.count, loss.count), width), h, codes, mask


@breaks("padding_changes_nothing__frames")
class NormalizesPadding(NEST):
    def fill(self, feats, mask):
        return super().fill(feats.replace(feats.x / (1 + feats.x.square().mean(1, keepdim=True))), mask)


@breaks("padding_changes_nothing__targets")
class CountsPadding(NEST):
    """Takes every row for as long as the longest."""

    def features(self, batch):
        clean, noisy = super().features(batch)
        longest = torch.full_like(clean.lengths, clean.x.size(1))
        return Seq(clean.x, longest), Seq(noisy.x, longest)


@breaks("stats_keep_their_names__names")
class DropsStats(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return loss if loss.count else replace(loss, stats={})


@breaks("stats_keep_their_names__evaluation")
class LogsMoreInTraining(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        extra = {"temperature": Stat(torch.ones(()))} if self.training else {}
        return replace(loss, stats=loss.stats | extra)


@breaks("stats_keep_their_names__shapes")
class LogsEveryTarget(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, stats=loss.stats | {"each": Stat(torch.ones(loss.count), 1.0, torch.sum)})


@breaks("stats_keep_their_names__nan")
class LogsNaN(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        mean = loss.stats["acc"].total / torch.tensor(float(loss.count))
        return replace(loss, stats=loss.stats | {"acc": Stat(mean)})


@breaks("no_target_leaks__no_mask")
class ForgetsTheMask(NEST):
    def fill(self, feats, mask):
        return feats


@breaks("no_target_leaks__residue")
class MasksAlmost(NEST):
    def fill(self, feats, mask):
        return feats.replace(super().fill(feats, mask).x + 1e-3 * feats.x)


@breaks("no_target_leaks__after")
class AddsTheCleanAfterwards(NEST):
    """The encoder's input is masked, what it embeds is not."""

    def forward(self, batch):
        r = self.encoder.stride
        clean, noisy = self.features(batch)
        mask = self.masking(clean.lengths, clean.x.size(1))
        masked, whole = self.encoder.embed(self.fill(noisy, mask)), self.encoder.embed(noisy)
        h = self.encoder.context(masked.replace(masked.x + 0.1 * whole.x)).last
        hit = stack(mask[..., None].float(), r).mean(-1) > self.cfg.threshold
        ids = self.quantizer(select(stack(clean.x, r), hit)).ids
        return masked_ce(self.head(select(h.x, hit)), ids)


@breaks("targets_follow_the_signal")
class WritesIntoTheCleanFrames(NEST):
    """With no augmentation, `clean` and `noisy` are one tensor: the targets become the mask token."""

    def features(self, batch):
        clean = self.frontend(batch.audio)
        return clean, clean

    def fill(self, feats, mask):
        feats.x[mask] = self.mask_token.vector
        return feats


@breaks("targets_are_masked")
class LooksAtOneFrame(NEST):
    """Every r-th frame of the mask: right as long as masks begin and end where targets do."""

    def forward(self, batch):
        r = self.encoder.stride
        clean, noisy = self.features(batch)
        mask = self.masking(clean.lengths, clean.x.size(1))
        h = self.encoder(self.hide(noisy, mask)).last
        hit = mask[:, ::r]
        return masked_ce(self.head(select(h.x, hit)), self.quantizer(select(stack(clean.x, r), hit)).ids)


@breaks("seed_decides_everything__own_generator")
class DrawsItsOwn(NEST):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.source = torch.Generator().manual_seed(0)

    def fill(self, feats, mask):
        return super().fill(feats.replace(feats.x + torch.randn(feats.x.shape, generator=self.source)), mask)


class Kept(Masking):
    """Draws a mask once."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.kept = inner, {}

    def forward(self, lengths, size):
        return self.kept.setdefault((tuple(lengths.tolist()), size), self.inner(lengths, size))


@breaks("seed_decides_everything__one_mask")
class DrawsOnce(NEST):
    def __init__(self, cfg, *, parts):
        parts.masking = Kept(parts.masking)
        super().__init__(cfg, parts=parts)


@breaks("bf16_keeps_targets")
class MixesBeforeItQuantizes(NEST):
    """A product in the compute dtype before the quantizer's own fp32."""

    def features(self, batch):
        clean, noisy = super().features(batch)
        return clean.replace((clean.x @ torch.eye(self.frontend.dim)).float()), noisy
