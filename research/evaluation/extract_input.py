"""What is to be extracted: a manifest, or one that is made of a folder or a file."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from research.config import Data
from research.data import audio
from research.data.manifest import Manifest, load
from research.errors import HarkError
from research.files import write

MANIFESTS = {".json", ".jsonl"}
AUDIO = {  # the last line is audio that nothing here decodes: it is named as such, not passed over
    *(".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".sf"),
    *(".m4a", ".aac", ".wma", ".amr", ".ape", ".wv"),
}
THREADS = 16  # that wait for headers


def audio_of(path: Path) -> list[Path]:
    """Files to index; none where `path` is a manifest. HarkError when it is nothing of use, or holds no audio."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO and file.is_file())
        if not files:
            raise HarkError(f"{path}: no audio is below it{endings(path)}")
        return files
    if not path.is_file():
        raise HarkError(f"{path}: nothing is here; name a manifest (.jsonl), a folder, or an audio file")
    return [] if path.suffix.lower() in MANIFESTS else [path]


def manifest_of(path: Path, out: Path) -> Path:
    """Where the manifest of an input is."""
    return path if path.is_file() and path.suffix.lower() in MANIFESTS else out / "input.jsonl"


def index(files: Sequence[Path], path: Path, out: Path) -> dict[str, str]:
    """Write the manifest of audio files, their names below `path` as ids; give those that it lacks, with reasons."""
    if not files:
        return {}
    root = path if path.is_dir() else path.parent
    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(files, pool.map(measure, files), strict=True))
    bad = {str(file): length for file, length in found.items() if isinstance(length, str)}
    lines = [
        {"id": file.relative_to(root).as_posix(), "audio_filepath": os.path.abspath(file), "duration": length}  # noqa: PTH100  keeps links
        for file, length in found.items()
        if isinstance(length, float)
    ]
    if not lines:
        raise HarkError(f"{next(iter(bad.values()))}; nothing that can be read is in {path}")
    write(manifest_of(root, out), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return bad


def measure(file: Path) -> float | str:
    """Seconds, or why there are none."""
    try:
        return audio.header(str(file)).seconds
    except audio.UndecodableError as error:
        return str(error)


def endings(path: Path) -> str:
    """` (there are: .txt 120, .csv 3)`, the most frequent first."""
    counts = Counter(file.suffix or "no ending" for file in path.rglob("*") if file.is_file())
    told = ", ".join(f"{ending} {count}" for ending, count in counts.most_common(5))
    return f" (there are: {told})" if told else " (it is empty)"


def read(path: Path, cfg: Data) -> tuple[Manifest, Data]:
    """Load a manifest with utterances of any duration; HarkError when its lines name features already."""
    cfg = replace(cfg, min_seconds=0.0, max_seconds=math.inf)
    manifest = load([path], cfg)
    if manifest.stored:
        raise HarkError(f"{path}: its lines name features already; name the manifest of the audio")
    return manifest, cfg
