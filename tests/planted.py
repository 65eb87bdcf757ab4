"""What to type for jobs that work and jobs that cannot, after whatever has to be spoilt first."""

import json
from pathlib import Path

import numpy as np
import soundfile

from tests.origins import make_run
from tests.sharded import as_shar, as_tars
from tests.sounds import RATE, signal_of, write

SMALL = (
    "encoder=fastconformer_tiny", "quantizer.codes=64", "masking.length=12", "data.batch_seconds=12", "data.buckets=4",
)  # fmt: skip


def base(speech, folder):
    return (
        f"data.train=[{speech['train']}]",
        f"data.valid=[{speech['valid']}]",
        f"run.folder={folder / 'runs'}",
    )


def typed(*overrides):
    return lambda speech, folder: overrides


def spoilt(change):
    """Every tenth line of a manifest is changed."""

    def plant(speech, folder):
        lines = [json.loads(line) for line in Path(speech["train"]).read_text().splitlines()]
        for line in lines[::10]:
            change(line, folder)
        return (f"data.train=[{write(folder / 'train.jsonl', *lines)}]",)

    return plant


def gone(line, folder):
    line["audio_filepath"] += ".gone"


def undecodable(line, folder):
    (folder / "broken.wav").write_bytes(b"not audio")
    line.update(audio_filepath=str(folder / "broken.wav"), id=line["audio_filepath"])


def too_long(line, folder):
    line["duration"] += 2.0


def text(lines):
    def plant(speech, folder):
        (folder / "train.jsonl").write_text(lines)
        return (f"data.train=[{folder / 'train.jsonl'}]",)

    return plant


def sounds(make, *overrides, rate=RATE):
    """All utterances sound like `make(i)`."""

    def plant(speech, folder):
        lines = []
        for i in range(20):
            soundfile.write(folder / f"{i}.wav", make(i), rate, subtype="FLOAT")
            lines.append({"audio_filepath": f"{i}.wav", "duration": len(make(i)) / rate})
        return (f"data.train=[{write(folder / 'train.jsonl', *lines)}]", *overrides)

    return plant


def with_nan(i):
    x = signal_of(1.0 + i / 20, RATE)
    x[100] = np.nan
    return x


def short_bins(speech, folder):
    (folder / "bins.yaml").write_text("bounds: [0.8, 1.0]\nsizes: [8, 4]\n")
    return (f"data.bins={folder / 'bins.yaml'}", "data.valid=[]")


def other_weights(speech, folder):
    wide = make_run(folder / "wide", "encoder=fastconformer_tiny", "quantizer.codes=64", "encoder.dim=96")
    return (f"init={wide}",)


def no_noise(speech, folder):
    corpus = write(folder / "noise.jsonl", {"audio_filepath": "hum.wav", "duration": 3.0})
    return ("augmentation=noise", f"data.noise=[{corpus}]")


def under_a_file(speech, folder):
    (folder / "file").write_text("")
    return (f"run.folder={folder / 'file' / 'runs'}",)


def streamed(plant, *overrides):
    """The same with the reader of streams."""
    return lambda speech, folder: ("data=lhotse", *plant(speech, folder), *overrides)


def lost_shard(speech, folder):
    shar = as_shar(speech["train"], folder / "shar")
    (shar / "recording.000001.tar").unlink()
    return (f"data.train=[{shar}]",)


def noisy(speech, folder):
    corpus = folder / "noise.jsonl"
    soundfile.write(folder / "hum.wav", signal_of(3.0, RATE), RATE)
    write(corpus, {"audio_filepath": "hum.wav", "duration": 3.0})
    return (*SMALL, "augmentation=noise", f"data.noise=[{corpus}]")


def good_bins(speech, folder):
    (folder / "bins.yaml").write_text("bounds: [1.0, 2.0, 3.0]\nsizes: [8, 4, 2]\n")
    return (*SMALL, f"data.bins={folder / 'bins.yaml'}")


def shar(speech, folder):
    mix = noisy(speech, folder)[-1].replace("data.noise", "data.mix.paths")
    return (
        *SMALL,
        "data=lhotse",
        f"data.train=[{as_shar(speech['train'], folder / 'shar')}]",
        "data.mix.prob=0.5",
        mix,
    )


def tars(speech, folder):
    folder = as_tars(speech["train"], folder / "tars")
    return (
        *SMALL,
        "data=lhotse",
        f"data.train=[{{path: {folder}, tags: {{lang: en}}}}]",
        "data.speed.prob=0.5",
    )
