import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from research.contracts import Augmentation, Batch, Seq
from research.errors import HarkError
from research.nn.augment import check_prob, check_range, chosen, set_energy, uniform
from research.registry import register


@register("reverb")
class Reverb(Augmentation):
    """Put some utterances into a room: convolve them with an impulse response whose direct path stays in place.

    With `files`, a chosen row draws one of these measured responses, each cut from its strongest sample on. Without,
    responses are made up (Polack's model): the direct path, then white noise that decays by 60 dB in a time drawn
    from `t60`, at a level drawn from `ratio`. Early reflections and walls that absorb some frequencies more than
    others are not modelled. A row keeps its length and its energy; what would sound on after its end is dropped.
    All files are held in memory: meant for thousands of responses, not millions.
    """

    responses: Tensor  # (R, L)

    @dataclass(kw_only=True)
    class Config(Augmentation.Config):
        prob: float = 0.5  # of an utterance to be chosen
        files: list[str] = field(default_factory=list)  # audio files, or manifests (JSONL) of them
        seconds: float = 1.0  # responses are cut to this length
        t60: tuple[float, float] = (0.1, 0.8)  # seconds
        ratio: tuple[float, float] = (0.0, 15.0)  # dB, energy of the direct path over that of the rest
        sample_rate: int = 16_000  # Hz

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        check_prob(cfg.prob)
        check_range("t60", cfg.t60)
        check_range("ratio", cfg.ratio)
        if cfg.t60[0] <= 0 or cfg.seconds <= 0:
            raise HarkError(
                f"augmentation.t60={list(cfg.t60)}, augmentation.seconds={cfg.seconds:g}: both are above 0"
            )
        self.cfg = cfg
        measured = [response(path, cfg) for name in cfg.files for path in audio_files(name)]
        bank = pad_sequence(measured, batch_first=True) if measured else torch.zeros(0, 1)  # (R, L)
        self.register_buffer("responses", bank, persistent=False)

    def forward(self, batch: Batch) -> Batch:
        heard = batch.noisy
        rows = chosen(self.cfg.prob, heard.lengths)  # (K,)
        if len(rows) == 0:
            return batch
        at = rows.to(heard.x.device, non_blocking=True)
        dry = Seq(heard.x[at], heard.lengths[rows])  # (K, N)
        x = dry.x * dry.valid
        wet = convolve(x, self.draw(len(rows), x.device)) * dry.valid  # (K, N)
        wet = torch.where(dry.valid, set_energy(wet, x.square().sum(1)), dry.x)
        return batch.augmented(heard.replace(heard.x.index_copy(0, at, wet)), rows)

    def draw(self, rows: int, device: torch.device) -> Tensor:
        """A response for each row, the direct path first: (K, L)."""
        if len(self.responses) > 0:
            return self.responses[torch.randint(len(self.responses), (rows,)).to(device, non_blocking=True)]
        cfg = self.cfg
        size = max(2, round(min(cfg.seconds, cfg.t60[1]) * cfg.sample_rate))
        time = torch.arange(1, size, device=device) / cfg.sample_rate  # (L - 1,) seconds
        t60 = uniform(cfg.t60, rows).to(device, non_blocking=True)  # (K,)
        tail = torch.randn(rows, size - 1, device=device) * 10 ** (-3 * time / t60[:, None])  # (K, L - 1)
        level = (10 ** (-uniform(cfg.ratio, rows) / 10)).to(device, non_blocking=True)  # (K,)
        return F.pad(set_energy(tail, level), (1, 0), value=1.0)


def convolve(x: Tensor, h: Tensor) -> Tensor:
    """Row by row, cut to the size of `x`: (K, N), (K, L) -> (K, N). Powers of two are fast on every device."""
    size = 1 << (x.size(1) + h.size(1) - 2).bit_length()
    return torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(h, size), size)[:, : x.size(1)]


def audio_files(name: str) -> list[Path]:
    """The file itself, or what a manifest lists, relative to its folder."""
    path = Path(name)
    if path.suffix not in (".json", ".jsonl"):
        return [path]
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        raise HarkError(f"augmentation.files: {name} cannot be read as a manifest") from None
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(path.parent / json.loads(line)["audio_filepath"])
            except (ValueError, KeyError, TypeError):
                raise HarkError(f"{name}:{number}: is no JSON object with an audio_filepath") from None
    if not found:
        raise HarkError(f"augmentation.files: {name} lists no response")
    return found


def response(path: Path, cfg: Reverb.Config) -> Tensor:
    """The first channel of a file from its strongest sample on, at `sample_rate`: (L,)."""
    import soundfile  # noqa: PLC0415  only where there are files
    import soxr  # noqa: PLC0415

    try:
        x, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (L', channels)
    except (soundfile.SoundFileError, OSError) as error:
        raise HarkError(f"augmentation.files: {path} cannot be read ({error})") from None
    wave = torch.from_numpy(soxr.resample(x[:, 0], rate, cfg.sample_rate))  # (L'',)
    if not wave.any() or not wave.isfinite().all():
        raise HarkError(f"augmentation.files: {path} is silent or holds values that are not finite")
    first = int(wave.abs().argmax())
    return wave[first : first + max(1, round(cfg.seconds * cfg.sample_rate))].clone()
