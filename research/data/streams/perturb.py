"""Rooms and noise while loading. What is done is drawn first; then it is a function of samples that keeps their number."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from research.config import Streams
from research.data import audio
from research.data.manifest import Utterance, load_noise
from research.data.noise import Noise, Samples, Sounds
from research.errors import HarkError

Change = Callable[[Samples], Samples]  # (N,) -> (N,)


class Perturbation(Protocol):
    number: int  # tells its random numbers from those of others
    clean: bool  # targets are made of what it changed

    def draw(self, size: int, rng: np.random.Generator, bad: list[str]) -> Change | None:
        """Draw what is done to `size` samples, None when nothing; `bad` gets why another clip was drawn."""
        ...


def perturbations(cfg: Streams) -> list[Perturbation]:
    """Those that the config wants, in order: the room that speech is in, then the noise around it.

    HarkError: a probability, an SNR or a manifest is not what it must be.
    """
    for name, prob in (("reverb", cfg.reverb.prob), ("mix", cfg.mix.prob)):
        if not 0 <= prob <= 1:
            raise HarkError(f"data.{name}.prob={prob:g}: must be from 0 to 1")
    found: list[Perturbation] = []
    if cfg.reverb.prob:
        found.append(Rooms(cfg))
    if cfg.mix.prob:
        found.append(Noises(cfg))
    return found


class Rooms:
    """Reverberation by an impulse response, moved back by its delay; the level stays."""

    number = 1

    def __init__(self, cfg: Streams) -> None:
        paths, self.prob, self.clean = cfg.reverb.paths, cfg.reverb.prob, cfg.reverb.clean
        self.sample_rate = cfg.sample_rate
        self.responses = None
        if paths:
            self.responses = Sounds(load_noise(paths, cfg, headers=cfg.headers), "data.reverb.paths")

    def draw(self, size: int, rng: np.random.Generator, bad: list[str]) -> Change | None:
        if rng.random() >= self.prob:
            return None
        if self.responses is None:
            response = invent(rng, self.sample_rate)
        else:
            response = self.responses.first(self.measured, rng, bad)
        return lambda x: reverberate(x, response, self.sample_rate)

    def measured(self, _: int, one: Utterance) -> Samples:
        """Read an impulse response, (N',), of the first channel: an average of several would be another room."""
        found = audio.frames(one.path, one.path, one.offset, one.duration)
        if not found.x[:, 0].any():
            raise audio.UndecodableError(f"{one.path}: this impulse response is zero everywhere")
        return audio.resample(found.x[:, 0], found.rate, self.sample_rate)


class Noises:
    """Noise at a drawn SNR over the whole utterance: clip after clip until it is covered."""

    number = 2

    def __init__(self, cfg: Streams) -> None:
        mix = cfg.mix
        if not mix.paths:
            raise HarkError(f"data.mix.prob={mix.prob:g}: needs data.mix.paths=[path/to/noise.jsonl]")
        if mix.snr[0] > mix.snr[1]:
            raise HarkError(f"data.mix.snr=[{mix.snr[0]:g},{mix.snr[1]:g}]: the lower SNR comes first")
        self.prob, self.snr, self.clean, self.sample_rate = mix.prob, mix.snr, mix.clean, cfg.sample_rate
        self.noise = Noise(load_noise(mix.paths, cfg, headers=cfg.headers), cfg, "data.mix.paths")

    def draw(self, size: int, rng: np.random.Generator, bad: list[str]) -> Change | None:
        if rng.random() >= self.prob:
            return None
        snr, clips, missing = rng.uniform(*self.snr), list[Samples](), size
        while missing:
            clips.append(self.noise.draw(missing, rng, bad))
            missing -= len(clips[-1])
        noise = np.concatenate(clips)  # (N,)
        return lambda x: mix(x, noise, snr, self.sample_rate)


def mix(x: Samples, noise: Samples, snr: float, sample_rate: int) -> Samples:
    from lhotse.audio.mixer import AudioMixer  # noqa: PLC0415

    mixer = AudioMixer(x[None], sample_rate)
    mixer.add_to_mix(noise[None], snr)
    return mixer.mixed_audio[0]


def reverberate(x: Samples, response: Samples, sample_rate: int) -> Samples:
    from lhotse.augmentation.rir import ReverbWithImpulseResponse  # noqa: PLC0415

    return ReverbWithImpulseResponse(rir_generator=lambda **_: response[None])(x[None], sample_rate)[0]


def invent(rng: np.random.Generator, sample_rate: int) -> Samples:
    """Draw an impulse response, (N',), with lhotse's fast random generator (arXiv 2208.04101)."""
    from lhotse.augmentation.utils import FastRandomRIRGenerator  # noqa: PLC0415

    room, source, paths = rng.integers(2**31, size=3).tolist()
    make = FastRandomRIRGenerator(sr=sample_rate, room_seed=room, source_seed=source)
    with Drawing(torch.Generator().manual_seed(paths)):
        return make()[0]


class Drawing(TorchFunctionMode):
    """Have `Tensor.multinomial` draw from a given generator: the default one is the training loop's."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is torch.Tensor.multinomial:
            given = given | {"generator": self.generator}
        return func(*args, **given)
