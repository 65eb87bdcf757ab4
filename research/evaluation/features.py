"""Frozen features: eval mode, no gradient, fp32, and nothing in the model moves."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from research.contracts import Encoded, Frontend, Seq
from research.data.features import Layout
from research.downstream import Features
from research.evaluation.speech import Speech
from research.model import Upstream

BATCH = 1_600_000  # samples, padding included: 100 s at 16 kHz


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules in eval mode; afterwards every submodule is in the mode that it was in."""
    modes = {module: module.training for top in modules for module in top.modules()}
    for top in modules:
        top.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def batches(lengths: Sequence[float], budget: float) -> Iterator[list[int]]:
    """Rows by falling length, as many at a time as fit the budget with their padding."""
    rows = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(rows):
        count = max(1, int(budget // lengths[rows[start]]))
        yield rows[start : start + count]
        start += count


@torch.no_grad()
def represent(forward: Callable[[Seq], list[Seq]], audio: Sequence[Tensor]) -> list[list[Tensor]]:
    """Apply what maps padded audio (B, N) to representations (B, T, D): one list of (T, D), on the host, for each."""
    found: dict[int, list[Tensor]] = {}
    for rows in batches([len(x) for x in audio], BATCH):
        padded = nn.utils.rnn.pad_sequence([audio[i] for i in rows], batch_first=True)  # (B, N)
        outputs = forward(Seq(padded, torch.tensor([len(audio[i]) for i in rows])))
        for b, i in enumerate(rows):
            found[i] = [y.x[b, : int(y.lengths[b])].float().cpu() for y in outputs]
    return [list(frames) for frames in zip(*(found[i] for i in range(len(audio))), strict=True)]


def encode(upstream: Upstream, speech: Speech, layers: Sequence[int] | None = None) -> dict[int, Features]:
    """What layers make of every utterance, as if it were alone; 0 is what the first block reads. None: all."""
    wanted = upstream.layers if layers is None else layers

    def forward(audio: Seq) -> list[Seq]:
        encoded: Encoded = upstream(audio.to(upstream.device), wanted)
        return [encoded.last.replace(y) for y in encoded.layers]

    with evaluating(upstream):
        frames = represent(forward, speech.audio)
    return {layer: about(speech, x, upstream.period) for layer, x in zip(wanted, frames, strict=True)}


def stored(layout: Layout, speech: Speech) -> dict[int, Features]:
    """What `hark extract` stored of every utterance."""
    return {
        layer: about(speech, [x[place].float() for x in speech.stored], layout.period)
        for place, layer in enumerate(layout.layers)
    }


def frontend_features(frontend: Frontend, speech: Speech) -> Features:
    """What a frontend without weights makes of every utterance."""
    with evaluating(frontend):
        (frames,) = represent(lambda audio: [frontend(audio)], speech.audio)
    return about(speech, frames, frontend.hop / frontend.sample_rate)


def about(speech: Speech, frames: list[Tensor], period: float) -> Features:
    """Give frames with what is known of their utterances; their labels come with the probe that asks."""
    return Features(frames, period, speech.segments, [""] * len(frames), speech.speakers)


def stacked(features: Features, size: int) -> Features:
    """Concatenate runs of `size` frames (T, D) -> (ceil(T / size), size * D); the last frame fills the last run."""
    frames = []
    for x in features.frames:
        runs = -(-len(x) // size)
        rows = torch.arange(runs * size).clamp(max=len(x) - 1)
        frames.append(x[rows].view(runs, -1))
    return replace(features, frames=frames, period=features.period * size)


def pick(features: Features, rows: Sequence[int]) -> Features:
    """Some of the utterances, in the order that is asked for."""
    kept: dict[str, Any] = {
        name: [some[i] for i in rows]
        for name in ("frames", "segments", "labels", "speakers")
        if (some := getattr(features, name))
    }
    return replace(features, **kept)


def mixed(layers: Mapping[int, Features]) -> Features:
    """Several layers at once: frames (T, D) of each -> (T, L, D)."""
    some = next(iter(layers.values()))
    frames = [torch.stack(found, 1) for found in zip(*(one.frames for one in layers.values()), strict=True)]
    return replace(some, frames=frames, layers=tuple(layers))
