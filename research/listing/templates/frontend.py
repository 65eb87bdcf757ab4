from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Frontend, Seq
from research.nn.mel import standardize
from research.registry import register


@register("starter")
class Starter(Frontend):
    """Say here what a frame is, and from which paper (arXiv id). As it is: log energies of a Fourier transform."""

    window: Tensor  # (W,)

    @dataclass(kw_only=True)
    class Config(Frontend.Config):
        size: int = 256  # samples in a window
        hop: int = 160  # samples from window to window
        sample_rate: int = 16_000  # Hz

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.dim, self.hop, self.sample_rate = cfg.size // 2, cfg.hop, cfg.sample_rate
        self.register_buffer("window", torch.hann_window(cfg.size), persistent=False)

    @torch.no_grad()
    def forward(self, audio: Seq) -> Seq:  # (B, N) -> (B, S, F)
        lengths = audio.lengths // self.hop  # (B,)
        frames = max(1, int(lengths.max()))
        wave = audio.x.float() * audio.valid  # nothing after a row's end may reach its frames
        missing = (frames - 1) * self.hop + len(self.window) - wave.size(1)
        windows = F.pad(wave, (0, missing)).unfold(1, len(self.window), self.hop)  # (B, S, W)
        with torch.autocast(wave.device.type, enabled=False):
            energy = torch.fft.rfft(windows * self.window)[..., 1:].abs().square()  # (B, S, F)
            feats = Seq((energy + 1e-6).log(), lengths)
            return feats.replace(standardize(feats.x, feats.valid, (1,)))
