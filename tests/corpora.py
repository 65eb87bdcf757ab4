"""A corpus of odd ids, sharded sets made of it, and what other readers find in them."""

import hashlib
import json
import tarfile
from functools import partial
from io import BytesIO

import numpy as np
import soundfile

from research.data.corpora.shards import prepare
from tests.sounds import RATE

RNG = np.random.default_rng(0)
LAYOUTS = ["shar", "tar"]
ODD_IDS = [
    "слово/ein Wort",
    "a.b/c.d",
    "a_b/c_d",
    "x-sub1",
    "/rooted//twice/",
    "../up",
    "100%",
    "",
    "naïve 音",
]
sharded = partial(prepare, workers=1)


def noise(seconds, channels=1, rate=RATE):
    return RNG.integers(-8000, 8000, (round(seconds * rate), channels)).astype(np.int16)


def odd_corpus(folder):
    """A manifest, and the samples that each of its ids stands for."""
    lines, samples = [], {}

    def line(name, file, x, **keys):
        where = {"id": name, "audio_filepath": file, "duration": len(x) / keys.pop("rate", RATE)}
        lines.append(where | keys)
        samples[name] = x

    for i, name in enumerate(ODD_IDS):
        x = noise(0.2 + i / 37)
        soundfile.write(folder / f"{i}.flac", x, RATE)
        line(
            name,
            f"{i}.flac",
            x,
            text=f"teßt {i}",
            speaker=f"s{i}",
            lang="de",
            phones=[[0, 0.1, "a"]],
            sr0=44_100,
        )
    long = noise(5.0)
    soundfile.write(folder / "long.wav", long, RATE)
    for i in range(4):
        line(f"segment {i}", "long.wav", long[i * RATE : (i + 1) * RATE], offset=float(i), sampling_rate=RATE)
    soundfile.write(folder / "stereo.wav", stereo := noise(0.5, channels=2, rate=8000), 8000)
    line("stereo", "stereo.wav", stereo, text="", rate=8000)
    (folder / "LICENSES.md").write_text("# Licences\n\nmine\n")
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path, samples


def shar_of(out):
    """What lhotse itself reads: id -> (cut, samples)."""
    from lhotse import CutSet

    cuts = list(CutSet.from_shar(in_dir=out / "shar"))
    return {(cut.custom or {}).get("id", cut.id): (cut, cut.load_audio().T) for cut in cuts}


def tar_of(out):
    """What NeMo reads: id -> (line, samples)."""
    found = {}
    for number in range(len(list(out.glob("audio_*.tar")))):
        lines = (out / "sharded_manifests" / f"manifest_{number}.json").read_text().splitlines()
        with tarfile.open(out / f"audio_{number}.tar") as opened:
            for line in map(json.loads, lines):
                data = opened.extractfile(line["audio_filepath"]).read()
                found[line["id"]] = line, soundfile.read(BytesIO(data), dtype="float32", always_2d=True)[0]
                assert line["shard_id"] == number
            assert len(opened.getnames()) == len(set(opened.getnames())) == len(lines)
    return found


def summary_of(out):
    return json.loads((out / "summary.json").read_text())


def sums(out):
    """SHA-256 of every file."""
    files = (file for file in out.rglob("*") if file.is_file())
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
