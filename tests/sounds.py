"""Audio files, and loaders on them, for the tests of the data path."""

import itertools
import json

import numpy as np
import soundfile

from research.config import Data
from research.data.loader import Loader
from research.data.manifest import load, load_noise
from research.data.plan import Item, Plan, by_budget

RATE = 16_000


def signal_of(seconds, rate, channels=1, seed=0):
    """Two sines, low enough to survive any conversion; channels differ by their level."""
    t = np.arange(round(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 + 10 * seed) * t) + 0.1 * np.sin(2 * np.pi * 1300 * t)
    return np.stack([wave * (1 + 0.5 * c) for c in range(channels)], 1).astype(np.float32)


def write(path, *lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def mixed_speech(folder):
    """A manifest of 40 utterances: whole files of several formats, rates and channels, and segments of two long files."""
    lines = []
    kinds = itertools.cycle([("wav", 16_000, 1), ("flac", 22_050, 1), ("ogg", 44_100, 2), ("wav", 8_000, 2)])
    for i, (ending, rate, channels) in zip(range(24), kinds, strict=False):
        seconds = 0.3 + 0.07 * i
        soundfile.write(folder / f"{i}.{ending}", signal_of(seconds, rate, channels, i), rate)
        lines.append({"audio_filepath": f"{i}.{ending}", "duration": round(seconds, 2)})
    for ending in ("flac", "ogg"):
        soundfile.write(folder / f"long.{ending}", signal_of(8.0, RATE), RATE)
        lines += [{"audio_filepath": f"long.{ending}", "offset": 0.9 * i, "duration": 0.8} for i in range(8)]
    return write(folder / "train.jsonl", *lines)


def mixed_noise(folder):
    """A manifest of four clips: a short and a long one, digital silence, and one that cannot be decoded."""
    rng = np.random.default_rng(0)
    soundfile.write(folder / "short.wav", 0.1 * rng.standard_normal(2_000), RATE)
    soundfile.write(folder / "long.flac", 0.1 * rng.standard_normal(90 * 8_000), 8_000)
    soundfile.write(folder / "silence.wav", np.zeros(RATE), RATE)
    (folder / "broken.wav").write_bytes(b"not audio")
    clips = {"short.wav": 0.125, "long.flac": 90.0, "silence.wav": 1.0, "broken.wav": 1.0}
    return write(folder / "noise.jsonl", *[{"audio_filepath": k, "duration": v} for k, v in clips.items()])


def loader_of(train, noise=None, seed=0, **settings):
    cfg = Data(batch_seconds=6.0, buckets=4, **settings)
    return Loader(load([train], cfg), load_noise([noise], cfg) if noise else None, cfg, seed)


def plan_of(loader, **how):
    durations = loader.speech.durations
    return Plan(durations, *by_budget(durations, loader.cfg), **how)


def everything(loader):
    return loader.load(Item(0, np.arange(len(loader.speech))))
