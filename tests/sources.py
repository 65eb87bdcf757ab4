"""Audio, manifests, tars and Shars made small, and what is heard of them or told about them as sources."""

import io
import json
import tarfile

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording
from lhotse.shar import SharWriter

from research.config import Streams
from research.data.streams.decode import decode
from research.data.streams.sources import open_streams
from research.errors import HarkError
from tests.sounds import RATE, signal_of, write


def sound(path, seconds, seed=0, channels=1):
    """Write a file; what is in it depends on the seed."""
    soundfile.write(path, signal_of(seconds, RATE, channels, seed), RATE)
    return path


def packed(seconds, seed=0):
    """The bytes of a FLAC."""
    file = io.BytesIO()
    soundfile.write(file, signal_of(seconds, RATE, seed=seed), RATE, format="flac")
    return file.getvalue()


def tar(path, members):
    """Write a tar of (name, bytes)."""
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def entry(name, seconds=1.0, **more):
    return {"audio_filepath": name, "duration": seconds, **more}


def sharded(folder, shards=3, size=4):
    """NeMo's tars, a manifest for each, and one for all: utterance k is (k + 5) / 10 s long, its signal that of seed k."""
    (folder / "sharded_manifests").mkdir(parents=True)
    every = []
    for shard in range(shards):
        numbers = range(shard * size, (shard + 1) * size)
        tar(folder / f"audio_{shard}.tar", [(f"u{k}.flac", packed((k + 5) / 10, k)) for k in numbers])
        entries = [entry(f"u{k}.flac", (k + 5) / 10, shard_id=shard) for k in numbers]
        write(folder / "sharded_manifests" / f"manifest_{shard}.json", *entries)
        every += entries
    write(folder / "tarred_audio_manifest.json", *every)
    return folder


def cuts_of(folder, count=5):
    """Cut k is (k + 5) / 10 s of the signal of seed k, from 0.1 s on."""
    cuts = []
    for k in range(count):
        recording = Recording.from_file(sound(folder / f"c{k}.wav", 1 + k / 10, k))
        cuts.append(MonoCut(f"cut{k}", 0.1, (k + 5) / 10, 0, recording=recording))
    return cuts


def shar(folder, cuts, size=3):
    folder.mkdir(exist_ok=True)
    with SharWriter(folder, {"recording": "flac"}, shard_size=size) as writer:
        for cut in cuts:
            writer.write(cut)
    return folder


def manifests(folder, **sizes):
    for name, size in sizes.items():
        write(folder / f"{name}.jsonl", *[entry(f"{name}{k}.wav") for k in range(size)])
    return {name: str(folder / f"{name}.jsonl") for name in sizes}


def one(entry, **settings):
    (stream,) = open_streams([str(entry) if not isinstance(entry, dict) else entry], Streams(**settings))
    return stream


def clips(stream):
    return [clip for shard in stream.shards for clip in shard.clips(0, len(shard.durations))]


def hear(clip):
    """Id and samples."""
    name, found = decode(clip, {}, Streams())
    return name, found.samples


def ids(stream):
    return [
        json.loads(clip.line).get("id") or json.loads(clip.line)["audio_filepath"] for clip in clips(stream)
    ]


def refused(entry, *words, **settings):
    with pytest.raises(HarkError) as caught:
        one(entry, **settings)
    told = str(caught.value)
    assert "\n" not in told
    for word in words:
        assert str(word) in told
    return told


def assert_heard(samples, seconds, seed, start=0.0):
    whole = signal_of(start + seconds, RATE, seed=seed)[:, 0]
    assert np.abs(samples - whole[round(start * RATE) :]).max() < 1e-3  # 16 bits
