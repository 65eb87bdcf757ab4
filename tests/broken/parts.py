"""Encoders, frontends and quantizers, broken in one way each."""

from dataclasses import replace

import torch
from torch import nn

from plugins.encoders.fastconformer import FastConformer
from plugins.frontends.log_mel import LogMel
from plugins.quantizers.random_projection import RandomProjection
from research.contracts import Codes, Encoded, Quantizer, Seq
from research.nn.mel import standardize
from research.nn.norm import BatchNorm
from tests.broken import breaks


@breaks("frames_are_a_stride_apart__lengths")
class RoundsDown(FastConformer):
    def embed(self, feats):
        return Seq(super().embed(feats).x, feats.lengths // self.stride)


@breaks("frames_are_a_stride_apart__frames")
class AddsAFrame(FastConformer):
    def embed(self, feats):
        out = super().embed(feats)
        return out.replace(nn.functional.pad(out.x, (0, 0, 0, 1)))


@breaks("layers_are_those_asked__sorted")
class Sorts(FastConformer):
    def context(self, x, layers=()):
        return super().context(x, sorted(layers))


@breaks("layers_are_those_asked__all")
class GivesAll(FastConformer):
    def context(self, x, layers=()):
        return super().context(x, layers or range(self.depth + 1))


@breaks("layers_are_those_asked__shifted")
class CountsFromOne(FastConformer):
    def context(self, x, layers=()):
        return super().context(x, [max(0, k - 1) for k in layers])


@breaks("layers_are_those_asked__forward")
class ForwardDiffers(FastConformer):
    def forward(self, feats, layers=()):
        out = super().forward(feats, layers)
        return Encoded(out.last.replace(out.last.x * 2), out.layers)


@breaks("frames_ignore_padding__attention")
class AttendsToPadding(FastConformer):
    def context(self, x, layers=()):
        everywhere = torch.full_like(x.lengths, x.x.size(1))
        out = super().context(Seq(x.x, everywhere), layers)
        return Encoded(Seq(out.last.x, x.lengths), out.layers)


@breaks("frames_ignore_padding__subsampling")
class ConvolvesPadding(FastConformer):
    def embed(self, feats):
        out = super().embed(Seq(feats.x, torch.full_like(feats.lengths, feats.x.size(1))))
        return Seq(out.x, -(-feats.lengths // self.stride))


class Norms(FastConformer):
    """Normalizes what it embeds, the right way: moved at the end of the step."""

    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.norm = BatchNorm(cfg.dim)

    def embed(self, feats):
        out = super().embed(feats)
        return out.replace(self.norm(out.x, self.counted(out)))

    def counted(self, out):
        return out.valid


@breaks("statistics_ignore_padding__frames")
class NormalizesOverAllFrames(Norms):
    def counted(self, out):
        return torch.ones_like(out.valid)


@breaks("statistics_ignore_padding__state")
class CollectsAllFrames(Norms):
    """Normalizes over valid frames, but remembers all."""

    def embed(self, feats):
        out = super().embed(feats)
        if self.training:
            kept = self.norm.pool.clone()
            self.norm(out.x, torch.ones_like(out.valid))
            self.norm.pool.sub_(kept)
        return out


@breaks("frames_are_left_alone__embed")
class ScalesItsInput(FastConformer):
    def embed(self, feats):
        feats.x.mul_(0.5)
        return super().embed(feats)


@breaks("frames_are_left_alone__context")
class ScalesWhatItEmbedded(FastConformer):
    def context(self, x, layers=()):
        with torch.no_grad():
            x.x.mul_(0.5)
        return super().context(x, layers)


@breaks("frames_hear_no_further_than_they_say")
class SaysItHearsLittle(FastConformer):
    """Its attention sees everything."""

    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.ahead = 2


@breaks("forward_moves_no_state")
class CountsBatches(FastConformer):
    """Torch's batch norm, which moves with every forward and counts padding."""

    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.norm = nn.BatchNorm1d(cfg.dim)

    def embed(self, feats):
        out = super().embed(feats)
        return out.replace(self.norm(out.x.mT).mT)


@breaks("frames_are_a_hop_apart__hop")
class DoublesItsHop(LogMel):
    def forward(self, audio):
        self.hop //= 2
        out = super().forward(audio)
        self.hop *= 2
        return out


@breaks("frames_are_a_hop_apart__dim")
class DropsABand(LogMel):
    def forward(self, audio):
        out = super().forward(audio)
        return out.replace(out.x[..., 1:])


@breaks("frames_ignore_padding__norm")
class NormalizesOverPadding(LogMel):
    def normalize(self, feats):
        return standardize(feats.x, torch.ones_like(feats.valid), (1,))


@breaks("audio_is_left_alone")
class ScalesTheAudio(LogMel):
    def prepare(self, audio):
        audio.x.div_(audio.x.abs().max() + 1e-3)
        return super().prepare(audio)


@breaks("short_audio_is_finite__silence")
class TakesLogOfZero(LogMel):
    def __init__(self, cfg):
        super().__init__(replace(cfg, guard=0.0, dither=0.0))


@breaks("short_audio_is_finite__lengths")
class CountsBelowZero(LogMel):
    """Frames of whole windows, without centring: a clip below a window has less than none."""

    def forward(self, audio):
        out = super().forward(audio)
        return Seq(out.x, out.lengths - 2)


@breaks("ids_are_codes__dtype")
class GivesInt32(RandomProjection):
    def forward(self, x):
        codes = super().forward(x)
        return Codes(codes.ids.int(), codes.vectors)


@breaks("ids_are_codes__range")
class CountsFrom1(RandomProjection):
    def forward(self, x):
        codes = super().forward(x)
        return Codes(codes.ids + 1, codes.vectors)


@breaks("ids_are_codes__books")
class ForgetsItsBooks(RandomProjection):
    def forward(self, x):
        codes = super().forward(x)
        return Codes(codes.ids[..., 0], codes.vectors)


@breaks("ids_are_codes__vectors")
class CutsItsVectors(RandomProjection):
    def forward(self, x):
        codes = super().forward(x)
        return Codes(codes.ids, codes.vectors[..., 1:])


@breaks("ids_are_codes__none")
class HidesItsVectors(RandomProjection):
    def forward(self, x):
        return Codes(super().forward(x).ids)


@breaks("ids_depend_on_the_input_only__batch")
class NormalizesOverTheBatch(RandomProjection):
    def forward(self, x):
        flat = x.flatten(0, -2)
        return super().forward(x - (flat.mean(0) if len(flat) else 0))


@breaks("ids_depend_on_the_input_only__draws")
class Draws(RandomProjection):
    def forward(self, x):
        return super().forward(x + 0.1 * torch.randn_like(x))


@breaks("ids_survive_autocast")
class ProjectsInBf16(RandomProjection):
    """Its matmul runs in whatever the surroundings say."""

    def forward(self, x):
        return super().forward(x @ torch.eye(x.size(-1)))


@breaks("inputs_are_left_alone__input")
class NormalizesInPlace(RandomProjection):
    def forward(self, x):
        with torch.no_grad():
            x.div_(2)
        return super().forward(x)


@breaks("inputs_are_left_alone__state")
class MovesItsCodes(RandomProjection):
    def forward(self, x):
        codes = super().forward(x)
        self.codebook.mul_(0.99)
        return codes


@breaks("refuses_to_build")
class NoForward(Quantizer):
    class Config(Quantizer.Config):
        pass

    def __init__(self, cfg, *, dim_in):
        super().__init__()
