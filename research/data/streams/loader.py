"""A batch of clips -> samples. What is drawn at random depends on (seed, epoch, utterance) and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from research.config import Streams
from research.contracts import Batch
from research.data.audio import UndecodableError
from research.data.loader import Loaded, pad
from research.data.manifest import Manifest
from research.data.noise import Noise, Samples
from research.data.streams.clip import Clip, Portion
from research.data.streams.decode import decode
from research.data.streams.perturb import perturbations
from research.data.streams.text import said
from research.errors import HarkError

OWN = 0  # number of the draws of the objective's noise; a perturbation's is its own


class Tagged(Protocol):
    """Of a source of a mixture, what the loader asks for."""

    @property
    def tags(self) -> Mapping[str, Any]: ...


@dataclass
class Heard(Loaded):
    """A batch of a lane, with what has to be kept to go on after it."""

    lane: int = 0
    first: int = 0  # the number, in its lane, of the batch that this epoch began with


class StreamLoader:
    """Decodes clips, perturbs them, and draws one clip of noise for each where there is a noise corpus."""

    def __init__(
        self,
        cfg: Streams,
        streams: Sequence[Tagged],
        noise: Manifest | None,
        seed: int,
        wants: Sequence[str] = (),
    ) -> None:
        """HarkError: `cfg.channel`, `cfg.mix` or `cfg.reverb` is not what it must be."""
        channel = cfg.channel
        if isinstance(channel, bool) or not (
            isinstance(channel, str) or (isinstance(channel, int) and channel >= 0)
        ):
            raise HarkError(
                f"data.channel={channel}: must be average, a number from 0, or a key of the lines"
            )
        self.cfg, self.seed, self.wants = cfg, seed, wants
        self.tags = [dict(stream.tags) for stream in streams]  # all that workers need of what may be large
        self.noise = None if noise is None else Noise(noise, cfg)
        self.perturbations = perturbations(cfg)

    def load(self, portion: Portion) -> Heard:
        """Read a batch. Utterances that cannot be decoded are left out and told; HarkError under `data.strict`."""
        heard = Heard(portion.epoch, lane=portion.lane, first=portion.first)
        clean, noisy, noise = list[Samples](), list[Samples](), list[Samples]()
        ids, texts = list[str](), list[str]()
        for clip in portion.clips:
            try:
                name, found = decode(clip, self.tags[clip.source], self.cfg)
            except UndecodableError as error:
                heard.leave_out(error)
                continue
            heard.take(found)
            heard.rows.append(clip.row)
            ids.append(name)
            if "text" in self.wants:
                texts.append(said(clip, name))
            both = self.perturb(found.samples, portion.epoch, clip, heard.bad_noise)
            clean.append(both[0])
            noisy.append(both[1])
            if self.noise is not None:
                rng = self.rng(portion.epoch, clip, OWN)
                noise.append(self.noise.draw(len(found.samples), rng, heard.bad_noise))
        if clean:
            batch = Batch.clean(pad(clean), noise=pad(noise) if noise else None, ids=ids, texts=texts)
            heard.hold(beside(batch, clean, noisy), float(self.cfg.sample_rate))
        return heard

    def perturb(self, x: Samples, epoch: int, clip: Clip, bad: list[str]) -> tuple[Samples, Samples]:
        """Give the clean side and the noisy one, (N,) each; the same object where they are equal."""
        clean = noisy = x
        for perturbation in self.perturbations:
            change = perturbation.draw(len(x), self.rng(epoch, clip, perturbation.number), bad)
            if change is None:
                continue
            changed = change(noisy)
            if perturbation.clean:
                clean = changed if clean is noisy else change(clean)
            noisy = changed
        return clean, noisy

    def rng(self, epoch: int, clip: Clip, number: int) -> np.random.Generator:
        """Random numbers of one perturbation of one utterance, or of one window of it, in one epoch."""
        place = round(clip.start * 1_000_000)  # us
        return np.random.default_rng((self.seed, epoch, clip.source, clip.row, place, number))


def beside(batch: Batch, clean: Sequence[Samples], noisy: Sequence[Samples]) -> Batch:
    """Put the noisy side of the rows that have one into a clean batch."""
    rows = [i for i, sides in enumerate(zip(clean, noisy, strict=True)) if sides[0] is not sides[1]]
    if not rows:
        return batch
    x = batch.audio.x.clone()  # (B, N)
    for i in rows:
        x[i, : len(noisy[i])] = torch.from_numpy(noisy[i])
    return batch.augmented(batch.audio.replace(x), torch.tensor(rows))
