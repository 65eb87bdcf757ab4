from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Frontend, Seq
from research.nn.mel import Normalize, mel_filters, preemphasis, standardize
from research.registry import preset, register


@register("log_mel")
class LogMel(Frontend):
    """Log-mel energies as NeMo computes them: Slaney's filters, centred symmetric Hann windows, pre-emphasis.

    An utterance of n samples gives floor(n / hop) frames. Always fp32, never differentiated. The dither of the
    training mode is one fixed noise, so that a clip has the same features, and tokens, every time.
    """

    window: Tensor  # (W,)
    filters: Tensor  # (n_fft // 2 + 1, F)
    noise: Tensor  # (N',)

    @dataclass(kw_only=True)
    class Config(Frontend.Config):
        dim: int = 80  # mel bands
        sample_rate: int = 16_000  # Hz
        window: float = 0.025  # seconds
        hop: float = 0.010  # seconds
        n_fft: int = 512  # samples of the Fourier transform
        preemphasis: float = 0.97  # share of the sample before that is taken off
        dither: float = 1e-5  # amplitude of the noise, when training
        dither_seed: int = 0  # of that noise
        guard: float = 2**-24  # added to the energies before the logarithm
        normalize: Normalize = Normalize.per_feature

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg, self.dim, self.sample_rate = cfg, cfg.dim, cfg.sample_rate
        self.hop = round(cfg.hop * cfg.sample_rate)
        window = torch.hann_window(round(cfg.window * cfg.sample_rate), periodic=False)
        seeded = torch.Generator("cpu").manual_seed(cfg.dither_seed)
        noise = torch.randn(4 * cfg.sample_rate, generator=seeded, device="cpu")
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", mel_filters(cfg.dim, cfg.n_fft, cfg.sample_rate), persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    @torch.no_grad()
    def forward(self, audio: Seq) -> Seq:
        lengths = audio.lengths // self.hop  # (B,)
        with torch.autocast(audio.x.device.type, enabled=False):
            wave = self.prepare(audio)  # (B, N)
            energy = self.spectrum(wave, max(1, int(lengths.max()))) @ self.filters  # (B, S, F)
            feats = Seq((energy + self.cfg.guard).log(), lengths)
            return feats.replace(self.normalize(feats))

    def prepare(self, audio: Seq) -> Tensor:
        """Dither, pre-emphasis, silence after the end: (B, N) -> a new (B, N)."""
        wave = audio.x.float()
        if self.training and self.cfg.dither > 0:
            repeats = -(-wave.size(1) // self.noise.size(0))
            wave = wave + self.cfg.dither * self.noise.repeat(repeats)[: wave.size(1)]
        return preemphasis(wave, self.cfg.preemphasis).mul_(audio.valid)

    def spectrum(self, wave: Tensor, frames: int) -> Tensor:
        """Energies of windows around every hop-th sample, silence outside: (B, N) -> (B, S, n_fft // 2 + 1)."""
        size = self.window.size(0)
        before = self.cfg.n_fft // 2 - (self.cfg.n_fft - size) // 2
        after = (frames - 1) * self.hop + size - before - wave.size(1)
        windows = F.pad(wave, (before, after)).unfold(1, size, self.hop) * self.window  # (B, S, W)
        spectrum = torch.fft.rfft(windows, n=self.cfg.n_fft)
        return spectrum.real.square() + spectrum.imag.square()

    def normalize(self, feats: Seq) -> Tensor:
        match self.cfg.normalize:
            case Normalize.per_feature:
                return standardize(feats.x, feats.valid, (1,))
            case Normalize.all_features:
                return standardize(feats.x, feats.valid, (1, 2))
            case Normalize.none:
                return feats.x * feats.valid[..., None]


preset("log_mel_128", LogMel.Config(dim=128))
preset("log_mel_raw", LogMel.Config(normalize=Normalize.none))
