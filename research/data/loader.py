"""A planned batch -> samples. What is drawn at random depends on (seed, epoch, utterance) and nothing else."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from research.config import Data
from research.contracts import Batch, Seq
from research.data import audio, features
from research.data.decoded import Decoded
from research.data.manifest import Manifest, Utterance
from research.data.noise import Noise
from research.data.plan import Item
from research.errors import HarkError

Samples = NDArray[np.float32]  # (N,), or (T, C) of features
# what of a run's utterances is counted: those that were heard, and of these digital silence and those that were
# resampled or averaged to mono; those that were not, by `UndecodableError.kind`
BAD = ("missing", "broken", "too_short", "not_finite")
COUNTED = ("utterances", "silent", "converted", *BAD)


@dataclass
class Loaded:
    """A batch with what reading it showed."""

    epoch: int
    batch: Batch | None = None  # None when none of its utterances could be read
    rows: list[int] = field(default_factory=list)  # the utterances that could be read
    seconds: float = 0.0  # of speech
    padded: float = 0.0  # of speech and padding
    counts: Counter[str] = field(default_factory=Counter)  # utterances, of COUNTED
    bad: list[str] = field(default_factory=list)  # why an utterance was left out, one line each
    bad_noise: list[str] = field(default_factory=list)  # why another noise clip was drawn

    def take(self, clip: audio.Clip) -> None:
        """Count an utterance that is in the batch."""
        self.counts.update(utterances=1, silent=int(not clip.samples.any()), converted=int(clip.converted))

    def leave_out(self, error: audio.UndecodableError) -> None:
        """Count and remember an utterance that is not."""
        self.bad.append(str(error))
        self.counts[error.kind] += 1

    def hold(self, batch: Batch, rate: float) -> None:
        """Keep what the utterances made, of `rate` samples or frames a second."""
        self.batch = batch
        self.seconds = int(batch.audio.lengths.sum()) / rate
        self.padded = batch.audio.x.shape[:2].numel() / rate

    def pin_memory(self) -> Self:
        """Move the batch to where a GPU copies from by itself."""
        if self.batch is not None:
            self.batch = self.batch.map(torch.Tensor.pin_memory)
        return self


class Loader:
    """Reads speech, and one clip of noise for every utterance where there is a noise corpus.

    Of a manifest of stored features, `Batch.audio` is (B, T, L * D): what `StoredUpstream` takes.
    """

    def __init__(self, speech: Manifest, noise: Manifest | None, cfg: Data, seed: int) -> None:
        if noise is not None and speech.stored:
            raise HarkError("data.noise: no noise can be added to stored features; leave it out")
        self.speech, self.cfg, self.seed = speech, cfg, seed
        self.noise = None if noise is None else Noise(noise, cfg)
        if cfg.cache and speech.stored:
            raise HarkError("data.cache: stored features need no decoding; leave it out")
        self.decoded = Decoded(speech, cfg) if cfg.cache else None
        self.rate = 1 / features.layout(speech).period if speech.stored else float(cfg.sample_rate)

    def load(self, item: Item) -> Loaded:
        """Read a batch. Utterances that cannot be decoded are left out and told; HarkError under `data.strict`."""
        loaded, speech, noise, ids = Loaded(item.epoch), [], [], []
        for row in item.rows.tolist():
            one = self.speech.utterance(row)
            try:
                clip = self.hear(row, one)
            except audio.UndecodableError as error:
                loaded.leave_out(error)
                continue
            loaded.take(clip)
            speech.append(clip.samples)
            ids.append(one.id)
            loaded.rows.append(row)
            if self.noise is not None:
                rng = np.random.default_rng((self.seed, item.epoch, row))
                noise.append(self.noise.draw(len(clip.samples), rng, loaded.bad_noise))
        if speech:
            batch = Batch.clean(pad(speech), noise=pad(noise) if noise else None, ids=ids)
            loaded.hold(batch, self.rate)
        return loaded

    def hear(self, row: int, one: Utterance) -> audio.Clip:
        if self.speech.stored:
            return audio.Clip(features.frames(self.speech, row).numpy(), converted=False)
        cfg, decoded = self.cfg, self.decoded
        if decoded and (clip := decoded.get(row)):
            return clip
        clip = audio.read(one.path, one.offset, one.duration, cfg.sample_rate, strict=cfg.strict)
        if decoded:
            decoded.put(row, clip)
        return clip


def pad(clips: list[Samples]) -> Seq:
    """Put clips of N_i samples, or features of T_i frames, into one batch, zeros on the right."""
    lengths = torch.tensor([len(clip) for clip in clips])  # (B,)
    padded = pad_sequence([torch.from_numpy(clip) for clip in clips], batch_first=True)  # (B, N, ...)
    return Seq(padded, lengths)
