from dataclasses import dataclass, field
from math import prod

from torch import nn
from torch.nn import functional as F

from research.contracts import Frontend, Seq
from research.errors import HarkError
from research.nn.wave import ConvLayer, FeatureNorm, feature_norm, standardize_wave
from research.registry import preset, register


@register("conv_wave")
class ConvWave(Frontend):
    """Trained convolutions on the waveform, 20 ms apart (wav2vec 2.0, arXiv 2006.11477, section 2).

    An utterance of n samples gives floor((n - 400) / 320) + 1 frames, one that is shorter than 400 none. The norm of
    the first convolution counts an utterance's own frames only.
    """

    example = ("objective=wav2vec2", "encoder=transformer_tiny", "frontend.channels=32")

    @dataclass(kw_only=True)
    class Config(Frontend.Config):
        channels: int = 512  # of every layer, and F
        kernels: list[int] = field(default_factory=lambda: [10, 3, 3, 3, 3, 2, 2])  # samples, then frames
        strides: list[int] = field(default_factory=lambda: [5, 2, 2, 2, 2, 2, 2])  # their product is the hop
        norm: FeatureNorm = FeatureNorm.group
        bias: bool = False  # of the convolutions
        normalize: bool = False  # give every clip zero mean and unit variance first
        grad_scale: float = 0.1  # the gradient that reaches the convolutions is multiplied by this
        sample_rate: int = 16_000  # Hz

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim, self.hop, self.sample_rate = cfg, cfg.channels, prod(cfg.strides), cfg.sample_rate
        self.layers = nn.ModuleList(
            ConvLayer(
                cfg.channels if index else 1,
                cfg.channels,
                kernel,
                stride,
                bias=cfg.bias,
                norm=feature_norm(cfg.norm, cfg.channels, index),
            )
            for index, (kernel, stride) in enumerate(zip(cfg.kernels, cfg.strides, strict=True))
        )
        self.window = 1  # samples that one frame reads
        for kernel, stride in zip(cfg.kernels[::-1], cfg.strides[::-1], strict=True):
            self.window = (self.window - 1) * stride + kernel

    def forward(self, audio: Seq) -> Seq:
        x = self.prepare(audio)  # (B, N, 1)
        for layer in self.layers:
            x = layer(x)  # (B, S, F)
        frames = x.x.float()
        if frames.requires_grad:
            frames.register_hook(lambda grad: grad * self.cfg.grad_scale)
        return x.replace(frames)

    def prepare(self, audio: Seq) -> Seq:
        """Silence after the end, and enough of it for one frame; no longer than the longest row: (B, N) -> (B, N, 1)."""
        size = max(self.window, int(audio.lengths.max()))
        wave = Seq(
            F.pad(audio.x, (0, size - audio.x.size(1))), audio.lengths
        )  # (B, N), cut where it is too long
        samples = standardize_wave(wave) if self.cfg.normalize else wave.x.float() * wave.valid
        return wave.replace(samples[..., None])


def refuse(cfg: ConvWave.Config) -> None:
    """Raise HarkError for settings that no convolutions can have."""
    if not cfg.kernels or len(cfg.kernels) != len(cfg.strides):
        raise HarkError(
            f"frontend.strides={cfg.strides}: give one stride for each of frontend.kernels={cfg.kernels}"
        )
    if min(*cfg.kernels, *cfg.strides, cfg.channels) < 1:
        raise HarkError("frontend: channels, kernels and strides are at least 1")
    if not 0 <= cfg.grad_scale <= 1:
        raise HarkError(f"frontend.grad_scale={cfg.grad_scale}: choose a factor from 0 to 1")


preset("conv_wave_layer", ConvWave.Config(norm=FeatureNorm.layer, bias=True, normalize=True))
preset("conv_wave_layer_no_bias", ConvWave.Config(norm=FeatureNorm.layer, normalize=True))
