"""Defects of kinds that were met in other toolkits, each as a plugin that looks right."""

from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from plugins.augmentations.speaker_noise import SpeakerNoise
from plugins.masking.block import Block
from plugins.objectives.nest import NEST
from plugins.objectives.wav2vec2 import Wav2Vec2
from plugins.quantizers.random_projection import RandomProjection
from research.contracts import Batch, Seq
from research.nn.functional import masked_ce, select, stack
from research.nn.teacher import Teacher
from tests.broken import breaks


@breaks("norm_over_the_wrong_axis")
class NormalizesFrames(RandomProjection):
    """The projected vectors, normalised over the frames instead of over their own dimensions."""

    def nearest(self, x):
        y = F.normalize(torch.einsum("md,gdc->gmc", x, self.projection), dim=1)  # (G, M, C)
        return torch.bmm(y, self.codebook.mT).argmax(-1).T


@breaks("mask_length_is_taken_for_the_stacking")
class DividesTheMask(NEST):
    def forward(self, batch):
        r = self.encoder.stride
        clean, noisy = self.features(batch)
        mask = self.masking(clean.lengths, clean.x.size(1))
        h = self.encoder(self.hide(noisy, mask)).last
        hit = mask[:, ::r]
        return masked_ce(self.head(select(h.x, hit)), self.quantizer(select(stack(clean.x, r), hit)).ids)


@breaks("one_mask_from_the_shortest_row")
class SharesAMask(Block):
    def forward(self, lengths, size):
        return super().forward(lengths.min()[None], size).expand(len(lengths), -1)


@breaks("mask_on_padding")
class MasksTheBatch(Block):
    def forward(self, lengths, size):
        return super().forward(torch.full_like(lengths, size), size)


@breaks("mask_guessed_from_small_values")
class GuessesTheMask(NEST):
    """Masked frames are zeros, so what is zero was masked."""

    def fill(self, x, mask):
        mask = mask.to(x.x.device, non_blocking=True)
        return x.replace(x.x.masked_fill(mask[..., None], 0.0))

    def forward(self, batch):
        clean, noisy = self.features(batch)
        heard = self.hide(noisy, self.masking(clean.lengths, clean.x.size(1)))
        h = self.encoder(heard).last
        small = (stack(heard.x, self.encoder.stride).abs() < 1e-5).float().mean(-1) > self.cfg.threshold
        ids = self.quantizer(select(stack(clean.x, self.encoder.stride), small)).ids
        return masked_ce(self.head(select(h.x, small)), ids)


@breaks("mean_over_an_empty_mask")
class AveragesTargets(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total / torch.tensor(loss.count) * loss.count)


@breaks("mean_in_place_of_the_sum")
class GivesTheMean(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total / max(loss.count, 1))


@breaks("noise_on_rows_that_were_not_chosen")
class MixesEverywhere(SpeakerNoise):
    """Rows that were not chosen get the clip as it is."""

    def forward(self, batch):
        out = super().forward(batch)
        if batch.noise is None:
            return out
        others = torch.ones(len(batch.audio.lengths), 1)
        others[out.changed] = 0
        size = min(batch.noise.x.size(1), out.noisy.x.size(1))
        clip = F.pad(batch.noise.x[:, :size], (0, out.noisy.x.size(1) - size)) * out.noisy.valid
        return replace(out, noisy=out.noisy.replace(out.noisy.x + clip * others.to(clip.device)))


@breaks("lengths_of_the_noise_clip")
class TakesTheClipsLength(SpeakerNoise):
    def forward(self, batch):
        out = super().forward(batch)
        if batch.noise is None:
            return out
        return replace(out, noisy=Seq(out.noisy.x, torch.minimum(batch.noise.lengths, out.noisy.lengths)))


@breaks("features_detached_by_the_mask")
class MasksACopy(Wav2Vec2):
    """The convolutions in front of the mask are never trained."""

    example = Wav2Vec2.example

    def fill(self, x, mask):
        return super().fill(x.replace(x.x.detach()), mask)

    def normalize(self, z):
        return super().normalize(z).detach()


@breaks("seed_ignored")
class AsksNumpy(Block):
    def forward(self, lengths, size):
        starts = np.random.default_rng().random((len(lengths), size)) < self.cfg.prob
        starts = torch.from_numpy(starts) & (torch.arange(size) < (lengths - self.cfg.length + 1)[:, None])
        starts[:, 0] |= lengths >= self.cfg.length
        padded = F.pad(starts.float(), (self.cfg.length - 1, 0))
        return F.max_pool1d(padded[:, None], self.cfg.length, stride=1)[:, 0].bool()


@breaks("seed_accumulated")
class CountsItsSeeds(Block):
    """Other masks in every epoch, as long as nothing is resumed."""

    calls = 0

    def forward(self, lengths, size):
        self.calls += 1
        with torch.random.fork_rng():
            torch.manual_seed(torch.initial_seed() + self.calls)
            return super().forward(lengths, size)


@breaks("teacher_moved_in_forward")
class MovesItsTeacher(NEST):
    """A moving average of the encoder follows with every forward, validation and micro-batches too."""

    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.teacher = Teacher(self.encoder)

    def forward(self, batch: Batch):
        self.teacher.follow(self.encoder, 0.999)
        return super().forward(batch)
