"""A batch to augment."""

import torch

from research.contracts import Batch, Seq

LENGTHS = torch.tensor([32_000, 48_000, 40_000, 20_000])


def speech(noise_lengths=None):
    """Four rows of white noise, silence after each; clips of a noise corpus when their lengths are given."""
    g = torch.Generator().manual_seed(0)
    audio = Seq(torch.randn(4, 48_000, generator=g) * 0.1, LENGTHS.clone())
    made = Batch.clean(audio.replace(audio.x * audio.valid), ids=list("abcd"))
    if noise_lengths is not None:
        lengths = torch.tensor(noise_lengths)
        noise = Seq(torch.randn(4, max(noise_lengths), generator=g), lengths)
        made.noise = noise.replace(noise.x * noise.valid)
    return made


def run(cls, given, seed=0, **choices):
    """Augment a batch."""
    torch.manual_seed(seed)
    return cls(cls.Config(**choices))(given)
