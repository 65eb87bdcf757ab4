"""Maskings, augmentations and probes, broken in one way each."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from plugins.augmentations.speaker_noise import SpeakerNoise
from plugins.augmentations.speed import Speed
from plugins.masking.block import Block
from plugins.masking.channel import Channel
from plugins.probes.phone_frames import PhoneFrames
from research.contracts import Augmentation, Masking
from research.downstream import Answers, Features
from tests.broken import breaks


@breaks("masks_are_on_the_host__dtype")
class GivesFloats(Block):
    def forward(self, lengths, size):
        return super().forward(lengths, size).float()


@breaks("masks_are_on_the_host__size")
class FitsTheLongest(Block):
    def forward(self, lengths, size):
        return super().forward(lengths, max(1, int(lengths.max())))


@breaks("masks_are_on_the_host__lengths")
class WritesLengths(Block):
    def forward(self, lengths, size):
        lengths.clamp_(min=1)
        return super().forward(lengths, size)


@breaks("padding_is_never_masked")
class MasksPadding(Block):
    def forward(self, lengths, size):
        return super().forward(torch.full_like(lengths, size), size)


@breaks("rows_that_can_be_masked_are__chance")
class LeavesItToChance(Block):
    """Most short rows draw no start."""

    def forward(self, lengths, size):
        possible = torch.arange(size) < (lengths - self.cfg.length + 1)[:, None]
        start = (torch.rand(len(lengths), size) < self.cfg.prob) & possible
        padded = F.pad(start.float(), (self.cfg.length - 1, 0))
        return F.max_pool1d(padded[:, None], self.cfg.length, stride=1)[:, 0].bool()


@breaks("rows_that_can_be_masked_are__never")
class MasksNothing(Masking):
    class Config(Masking.Config):
        pass

    def __init__(self, cfg):
        super().__init__()

    def forward(self, lengths, size):
        return torch.zeros(len(lengths), size, dtype=torch.bool)


@breaks("rows_draw_their_own__shortest")
class FitsTheShortest(Block):
    def forward(self, lengths, size):
        return super().forward(lengths.clamp(max=lengths.min()), size)


@breaks("rows_draw_their_own__one")
class DrawsOneForAll(Block):
    def forward(self, lengths, size):
        return super().forward(lengths.max()[None], size) & (torch.arange(size) < lengths[:, None])


@breaks("seed_decides_the_mask__elsewhere")
class DrawsFromElsewhere(Block):
    def forward(self, lengths, size):
        torch.manual_seed(np.random.default_rng().integers(1 << 30))
        return super().forward(lengths, size)


@breaks("seed_decides_the_mask__same")
class SeedsItself(Block):
    def forward(self, lengths, size):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return super().forward(lengths, size)


@breaks("channels_are_hidden_whole__frames")
class HidesMaskedFramesOnly(Channel):
    def channels(self, x):
        out = super().channels(x)
        late = torch.arange(x.x.size(1)) >= 5
        return out.replace(torch.where(late[:, None], x.x, out.x))


@breaks("channels_are_hidden_whole__padding")
class HidesPadding(Channel):
    def channels(self, x):
        return super().channels(replace(x, lengths=torch.full_like(x.lengths, x.x.size(1))))


@breaks("channels_are_hidden_whole__value")
class DampsChannels(Channel):
    def channels(self, x):
        return x.replace(0.9 * super().channels(x).x + 0.1 * x.x)


@breaks("channels_are_hidden_whole__same")
class HidesTheSameChannels(Channel):
    def channels(self, x):
        return x.replace(torch.where((torch.arange(x.x.size(2)) < 10) & x.valid[..., None], 0.0, x.x))


@breaks("channels_are_hidden_whole__input")
class HidesInPlace(Channel):
    def channels(self, x):
        x.x.copy_(super().channels(x).x)
        return x


@breaks("clean_signal_is_left_alone__audio")
class MixesInPlace(SpeakerNoise):
    def forward(self, batch):
        out = super().forward(batch)
        batch.audio.x.copy_(out.noisy.x)
        return out


@breaks("clean_signal_is_left_alone__labels")
class DropsLabels(SpeakerNoise):
    def forward(self, batch):
        return replace(super().forward(batch), labels=None)


@breaks("clean_signal_is_left_alone__noise")
class ScalesTheCorpus(SpeakerNoise):
    def forward(self, batch):
        if batch.noise is not None:
            batch.noise.x.mul_(0.5)
        return super().forward(batch)


@breaks("changed_rows_are_listed__none")
class ListsNothing(SpeakerNoise):
    def forward(self, batch):
        return replace(super().forward(batch), changed=torch.zeros(0, dtype=torch.long))


@breaks("changed_rows_are_listed__all")
class ListsAll(SpeakerNoise):
    def forward(self, batch):
        return replace(super().forward(batch), changed=torch.arange(len(batch.audio.lengths)))


@breaks("changed_rows_are_listed__mask")
class GivesAMask(SpeakerNoise):
    def forward(self, batch):
        out = super().forward(batch)
        listed = torch.zeros(len(batch.audio.lengths), dtype=torch.bool)
        listed[out.changed] = True
        return replace(out, changed=listed)


class Hiss(Augmentation):
    """White noise on all rows."""

    class Config(Augmentation.Config):
        pass

    def __init__(self, cfg):
        super().__init__()

    def hiss(self, batch):
        return 0.01 * torch.randn_like(batch.audio.x) * batch.audio.valid

    def forward(self, batch):
        noisy = batch.audio.replace(batch.audio.x + self.hiss(batch))
        return replace(batch, noisy=noisy, changed=(batch.audio.lengths > 0).nonzero()[:, 0])


@breaks("earlier_changes_are_kept__signal")
class StartsFromTheCleanSignal(Hiss):
    def forward(self, batch):
        return batch.augmented(super().forward(batch).noisy, torch.arange(len(batch.ids)))


@breaks("earlier_changes_are_kept__list")
class ForgetsWhatWasListed(SpeakerNoise):
    def forward(self, batch):
        return super().forward(replace(batch, changed=batch.changed[:0]))


@breaks("earlier_changes_are_kept__others")
class ForgetsOtherRows(SpeakerNoise):
    def forward(self, batch):
        out = super().forward(batch)
        lost = torch.where(out.noisy.x == batch.noisy.x, batch.audio.x, out.noisy.x)
        return replace(out, noisy=replace(out.noisy, x=lost))


@breaks("lengths_and_padding_stay__own")
class LeavesTheTail(Speed):
    def forward(self, batch):
        heard = super().forward(batch).noisy
        return batch.augmented(replace(heard, x=heard.x + 0.01), torch.arange(len(batch.ids)))


@breaks("lengths_and_padding_stay__fit")
class ForgetsTheLengths(Speed):
    def forward(self, batch):
        out = super().forward(batch)
        return replace(out, noisy=replace(out.noisy, lengths=out.noisy.lengths + 1000))


@breaks("lengths_and_padding_stay__padding")
class HissesInPadding(Hiss):
    def hiss(self, batch):
        return 0.01 * torch.randn_like(batch.audio.x)


@breaks("lengths_and_padding_stay__shape")
class CutsTheEnd(Hiss):
    def forward(self, batch):
        out = super().forward(batch)
        return replace(out, noisy=replace(out.noisy, x=out.noisy.x[:, :-1]))


@breaks("seed_decides_the_noise__own")
class HissesOnItsOwn(Hiss):
    def __init__(self, cfg):
        super().__init__(cfg)
        self.source = torch.Generator()

    def hiss(self, batch):
        return 0.01 * torch.randn(batch.audio.x.shape, generator=self.source) * batch.audio.valid

    def forward(self, batch):
        self.source.seed()
        return super().forward(batch)


@breaks("seed_decides_the_noise__same")
class HissesTheSame(Hiss):
    def hiss(self, batch):
        return 0.01 * torch.sin(torch.arange(batch.audio.x.size(1))) * batch.audio.valid


@breaks("odd_clips_are_harmless__silence")
class DividesByEnergy(Hiss):
    """A signal-to-noise ratio without a guard."""

    def hiss(self, batch):
        x = super().hiss(batch)
        return x / x.square().sum(1, keepdim=True) * batch.audio.x.square().sum(1, keepdim=True)


@breaks("odd_clips_are_harmless__alone")
class NeedsAnother(SpeakerNoise):
    def forward(self, batch):
        if len(batch.audio.lengths) == 1:
            raise IndexError("no other row")
        return super().forward(batch)


@breaks("device_is_never_read__bool")
class AsksForEnergy(SpeakerNoise):
    def forward(self, batch):
        return super().forward(batch) if batch.audio.x.abs().max() > 0 else batch


@breaks("answers_add_up__rows")
class SumsTooEarly(PhoneFrames):
    def run(self, train, dev, test, seed):
        held, answers = super().run(train, dev, test, seed)
        return held, Answers(answers.counts.sum(0, keepdim=True), answers.metrics)


@breaks("answers_add_up__metrics")
class GivesOneNumber(PhoneFrames):
    def run(self, train, dev, test, seed):
        held, answers = super().run(train, dev, test, seed)
        return held, Answers(
            answers.counts, lambda c: {name: v.mean() for name, v in answers.metrics(c).items()}
        )


@breaks("seed_decides_the_answers")
class DrawsAnySeed(PhoneFrames):
    def run(self, train, dev, test, seed):
        noisy = Features([x + torch.randn_like(x) for x in train.frames], train.period, train.segments)
        return super().run(noisy, dev, test, seed)


@breaks("features_are_left_alone")
class StandardizesInPlace(PhoneFrames):
    def run(self, train, dev, test, seed):
        for x in train.frames:
            x.sub_(x.mean(0))
        return super().run(train, dev, test, seed)


@breaks("knowledge_pays")
class LeadsWithErrors(PhoneFrames):
    def run(self, train, dev, test, seed):
        held, answers = super().run(train, dev, test, seed)
        return held, Answers(answers.counts, lambda c: {"error": 1 - answers.metrics(c)["accuracy"]})


@breaks("asking_teaches_nothing")
class StandardizesByTheTest(PhoneFrames):
    def run(self, train, dev, test, seed):
        mean = torch.cat(test.frames).mean(0)
        train, dev, test = (replace(f, frames=[x - mean for x in f.frames]) for f in (train, dev, test))
        dev.frames[0][:, 0] += mean[0]
        return super().run(train, dev, test, seed)


@breaks("mixtures_tell_their_weights")
class TakesTheFirstLayer(PhoneFrames):
    mixes = True

    def run(self, train, dev, test, seed):
        if train.layers:
            train, dev, test = (replace(f, frames=[x[:, 0] for x in f.frames]) for f in (train, dev, test))
        return super().run(train, dev, test, seed)
