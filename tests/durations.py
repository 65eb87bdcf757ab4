"""Durations as those of speech, and manifests of them."""

import json

import numpy as np

from research.data.bins import Part, histogram


def speech(utterances=1000, seed=0):
    return np.random.default_rng(seed).lognormal(1.5, 0.7, utterances).clip(0.3, 40.0).round(3)


def manifest(path, durations, **more):
    lines = [
        {"audio_filepath": f"{path.stem}-{i}.wav", "duration": float(d)} | more
        for i, d in enumerate(durations)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def cells_of(durations, repeats=1.0):
    return histogram([Part(np.asarray(durations), repeats)])
