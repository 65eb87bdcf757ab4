"""Audio files of a tone, and manifests of them."""

import json
from pathlib import Path

import numpy as np
import soundfile

A = {"audio_filepath": "a.wav", "duration": 2.0}


def tone(path: Path, seconds: float, rate: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.05)
    soundfile.write(path, np.stack([wave] * channels, 1), rate)
    return path


def write(path: Path, *lines: dict | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def tones_in(folder):
    """Two files: one as models take them, one of another rate and of two channels."""
    tone(folder / "a.wav", 2.0)
    tone(folder / "deep" / "b.flac", 3.0, 22_050, 2)
    return folder
