"""Clips to decode, loaders of them, and cuts of lhotse, for the tests of streams."""

import io
import json
import tarfile
from dataclasses import dataclass, field

import soundfile

from research.config import Streams
from research.data.manifest import load_noise
from research.data.streams.clip import Address, Clip, Format, Portion
from research.data.streams.loader import StreamLoader
from tests.sounds import signal_of

KINDS = {
    "flac": {"format": "FLAC"},
    "wav": {"format": "WAV", "subtype": "FLOAT"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
}
NAMES = ["mono", "opus", "part", "second", "fast", "room", "mixed", "padded", "glued"]


@dataclass
class Source:
    tags: dict = field(default_factory=dict)


def loader_of(noise=None, seed=0, tags=None, **settings):
    cfg = Streams(**settings)
    return StreamLoader(cfg, [Source(tags or {})], load_noise([noise], cfg) if noise else None, seed)


def clip_of(line, folder, *, duration=None, start=0.0, speed=1.0, row=0, member=None):
    kind = Format.cut if "type" in line else Format.nemo
    seconds = duration or (whole(line) - start) / speed
    return Clip(seconds, start, speed, 0, row, kind, json.dumps(line).encode(), str(folder), member)


def whole(line):
    """Seconds of a line of a manifest or a cut."""
    if line.get("type") == "MixedCut":
        return max(track.get("offset", 0) + track["cut"]["duration"] for track in line["tracks"])
    return line["duration"]


def hear(loader, *clips, epoch=0):
    return loader.load(Portion(epoch, 2, 7, list(clips)))


def one(clip, **settings):
    """Samples of the only row, whose length is that of the batch."""
    heard = hear(loader_of(**settings), clip)
    assert heard.bad == []
    return heard.batch.audio.x[0].numpy()


def encoded(x, rate, kind):
    file = io.BytesIO()
    soundfile.write(file, x, rate, **KINDS[kind])
    return file.getvalue()


def tar_of(path, members):
    """Write members into a tar and find them again."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        return {info.name: Address(str(path), info.offset_data, info.size) for info in tar}


def cuts_in(folder):
    """Cuts of lhotse by name, with their audio in a folder."""
    from lhotse import MonoCut, Recording

    recordings = {}
    for name, rate, channels, kind in (
        ("mono", 16_000, 1, "flac"),
        ("opus", 48_000, 1, "opus"),
        ("low", 8_000, 1, "wav"),
        ("pair", 16_000, 2, "wav"),
    ):
        path = folder / f"{name}.{kind}"
        soundfile.write(path, signal_of(4.0, rate, channels, len(name)), rate, **KINDS[kind])
        recordings[name] = Recording.from_file(path)
    found = {name: recording.to_cut() for name, recording in recordings.items()}
    found["part"] = MonoCut("part", 1.25, 2.0, 0, recording=recordings["mono"])
    found["second"] = MonoCut("second", 0.5, 3.0, 1, recording=recordings["pair"])
    found["fast"] = found["part"].perturb_speed(1.1)
    found["room"] = found["part"].reverb_rir(recordings["low"].resample(16_000))
    found["mixed"] = found["part"].mix(found["mono"].truncate(duration=1.5), offset_other_by=0.25, snr=5)
    found["padded"] = found["part"].pad(duration=2.5)
    found["glued"] = found["part"].append(found["fast"])
    return found


def relative(cut, folder):
    """A cut's JSON with paths from the folder on."""
    return json.loads(json.dumps(cut.to_dict()).replace(f"{folder}/", ""))
