"""Clips of a noise corpus, drawn at random."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from research.config import Data
from research.data import audio
from research.data.decoded import Decoded
from research.data.manifest import Manifest, Utterance
from research.errors import HarkError

Samples = NDArray[np.float32]  # (N,)
TRIES = 20  # clips in a row that may be broken
LONGEST = 60.0  # s of a clip that is decoded whole to be kept


@dataclass(frozen=True)
class Sounds:
    """A corpus that sounds are drawn from; `key` is what names it in the config."""

    corpus: Manifest
    key: str

    def first(
        self, read: Callable[[int, Utterance], Samples], rng: np.random.Generator, bad: list[str]
    ) -> Samples:
        """The first of randomly drawn utterances, by row, that can be read.

        Why another one was drawn is added to `bad`; HarkError when `TRIES` in a row are broken.
        """
        for _ in range(TRIES):
            row = int(rng.integers(len(self.corpus)))
            try:
                return read(row, self.corpus.utterance(row))
            except audio.UndecodableError as error:
                bad.append(str(error))
        raise HarkError(f"{bad[-1]}: the {TRIES}th broken clip in a row; see {self.key}")


class Noise:
    """Clips of a noise corpus."""

    def __init__(self, corpus: Manifest, cfg: Data, key: str = "data.noise") -> None:
        self.sounds = Sounds(corpus, key)
        self.sample_rate, self.strict = cfg.sample_rate, cfg.strict
        self.decoded = Decoded(corpus, cfg) if cfg.cache else None

    def draw(self, size: int, rng: np.random.Generator, bad: list[str]) -> Samples:
        """Draw a clip of noise, (N',), N' <= size: a whole one, or a random part of one that is longer.

        Digital silence becomes white noise of -90 to -46 dB, as in NeMo: every level can be set on what comes back.
        `bad` and HarkError as of `Sounds.first`.
        """
        wanted = size / self.sample_rate

        def part(row: int, one: Utterance) -> Samples:
            offset = one.offset + rng.uniform(0.0, max(0.0, one.duration - wanted))
            return self.read(row, one, offset, min(wanted, one.duration))[:size]

        clip = self.sounds.first(part, rng, bad)
        return clip if clip.any() else white(len(clip), rng)

    def read(self, row: int, one: Utterance, offset: float, seconds: float) -> Samples:
        """As `audio.read`, of what is kept where that gives the same bits: a part of what was converted has others."""
        if self.decoded is None:
            return audio.read(one.path, offset, seconds, self.sample_rate, strict=self.strict).samples
        begin = round(offset * self.sample_rate) - round(one.offset * self.sample_rate)
        size = round(seconds * self.sample_rate)
        kept = self.decoded.get(row, slice(begin, begin + size))
        if kept and not kept.converted and len(kept.samples) == size:
            return kept.samples
        clip = audio.read(one.path, offset, seconds, self.sample_rate, strict=self.strict)
        if not kept and not clip.converted and one.duration <= LONGEST:
            with suppress(audio.UndecodableError):  # somewhere else: this part is sound
                self.decoded.put(row, audio.read(one.path, one.offset, one.duration, self.sample_rate))
        return clip.samples


def white(size: int, rng: np.random.Generator) -> Samples:
    level = 10 ** (rng.uniform(-90.0, -46.0) / 20)
    return (level * rng.standard_normal(size)).astype(np.float32)
