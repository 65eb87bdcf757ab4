from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Frontend, Seq
from research.errors import HarkError
from research.nn.kaldi import FLOOR, SCALE, at_least, energies, kaldi_filters, povey_window, standardize
from research.nn.mel import Normalize
from research.registry import preset, register


@register("fbank")
class Fbank(Frontend):
    """Kaldi's log-mel energies, standardised per utterance, pairs of frames stacked: what w2v-BERT 2.0 reads.

    Windows lie whole within the audio: an utterance of n samples has floor((n - 400) / 160) + 1 of them at 16 kHz.
    Always fp32, never differentiated, no dither.
    """

    example = ("encoder.stride=2", "masking.length=8")  # frames may be stacked
    window: Tensor  # (W,)
    filters: Tensor  # (n_fft // 2 + 1, bands)

    @dataclass(kw_only=True)
    class Config(Frontend.Config):
        bands: int = 80  # mel bands
        stack: int = 2  # consecutive frames in one; what does not fill one is dropped
        sample_rate: int = 16_000  # Hz
        window: float = 0.025  # seconds
        hop: float = 0.010  # seconds from window to window
        n_fft: int = 512  # samples of the Fourier transform
        preemphasis: float = 0.97  # share of the sample before that is taken off
        normalize: Normalize = Normalize.per_feature

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg, self.dim, self.sample_rate = cfg, cfg.bands * cfg.stack, cfg.sample_rate
        self.size, self.step = round(cfg.window * cfg.sample_rate), round(cfg.hop * cfg.sample_rate)
        self.hop = self.step * cfg.stack
        if self.size > cfg.n_fft:
            raise HarkError(
                f"frontend.n_fft={cfg.n_fft}: a window has {self.size} samples; choose a larger one"
            )
        filters = kaldi_filters(cfg.bands, cfg.n_fft, cfg.sample_rate)
        self.register_buffer("window", povey_window(self.size), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    @torch.no_grad()
    def forward(self, audio: Seq) -> Seq:
        lengths = ((audio.lengths - self.size) // self.step + 1).clamp(min=0)  # (B,) windows
        with torch.autocast(audio.x.device.type, enabled=False):
            wave = at_least(audio.x.float() * SCALE, self.size)  # (B, N)
            energy = energies(wave, self.window, self.step, self.cfg.n_fft, self.cfg.preemphasis)
            energy = energy[:, : max(1, int(lengths.max()))] @ self.filters  # (B, S, bands)
            feats = self.describe(Seq(energy.clamp(min=FLOOR).log(), lengths))
            return self.stack(self.normalize(feats))

    def describe(self, feats: Seq) -> Seq:
        """What a frame is made of, from its log-mel energies: (B, S, bands) -> (B, S, F / stack)."""
        return feats

    def normalize(self, feats: Seq) -> Seq:
        inside = feats.valid[..., None].float()  # (B, S, 1)
        match self.cfg.normalize:
            case Normalize.per_feature:
                return feats.replace(standardize(feats.x, inside, (1,)))
            case Normalize.all_features:
                return feats.replace(standardize(feats.x, inside, (1, 2)))
            case Normalize.none:
                return feats.replace(feats.x * inside)

    def stack(self, feats: Seq) -> Seq:
        """(B, S * stack, bands) -> (B, S, F), no wider than the longest row."""
        lengths = feats.lengths // self.cfg.stack
        size = max(1, int(lengths.max())) * self.cfg.stack
        x = F.pad(feats.x[:, :size], (0, 0, 0, max(0, size - feats.x.size(1))))
        whole = torch.arange(size // self.cfg.stack) < lengths[:, None]  # (B, S) on the host
        x = x.unflatten(1, (-1, self.cfg.stack)).flatten(2)  # (B, S, F)
        return Seq(x * whole.to(x.device, non_blocking=True)[..., None], lengths)


preset("fbank_plain", Fbank.Config(stack=1, normalize=Normalize.none))
preset("stacked_mel", Fbank.Config(stack=4))  # 40 ms: for encoders that do not subsample
