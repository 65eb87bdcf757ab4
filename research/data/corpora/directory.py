"""A folder of audio, indexed where it lies: headers are read, nothing is decoded or copied."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import soundfile
from rich.progress import track

from research.data.corpora.corpus import Part, Row, finish, making
from research.errors import HarkError

WORKERS = 8  # threads: reading headers is waiting for the disk
LICENCES = "# Licences\n\nNothing was copied from {path}; whatever terms its audio has apply.\n"


def prepare(path: Path, glob: str, out: Path) -> Path:
    """Index the files below `path` whose names match, by absolute path, and give the folder `out`.

    Files without a readable header are left out, counted and named in summary.json. HarkError when none is left.
    """
    path = path.resolve()
    if not path.is_dir():
        raise HarkError(f"{path}: no such folder")
    files = sorted(file for file in path.rglob(glob) if file.is_file())
    if not files:
        raise HarkError(f"{path}: no file matches --glob '{glob}'{_endings(path)}")
    with making(out):
        with ThreadPoolExecutor(WORKERS) as pool:
            found = list(track(pool.map(partial(row, path), files), description="headers", total=len(files)))
        rows = [one for one in found if isinstance(one, dict)]
        bad = [one for one in found if isinstance(one, str)]
        if not rows:
            raise HarkError(f"{bad[0]}; none of {len(files)} files is audio: see --glob")
        part = Part(rows, Counter(unreadable=len(bad)))
        inputs = {"folder": str(path), "glob": glob}
        finish(out, inputs=inputs, parts=[part], licences=LICENCES.format(path=path), notes=bad)
    return out


def row(root: Path, file: Path) -> Row | str:
    """Give the row of a file, or what is wrong with it."""
    try:
        info = soundfile.info(file)
    except soundfile.SoundFileError as error:
        return f"{file}: {error}"
    if info.frames <= 0:
        return f"{file}: holds no audio"
    name = file.relative_to(root).as_posix()
    return {
        "id": name,
        "audio_filepath": str(file),
        "duration": info.frames / info.samplerate,
        "text": "",
        "lang": "",
        "speaker": "",
        "source": root.name,
        "kind": "",
        "word": "",
        "sr0": info.samplerate,
        "digest": name,
    }


def _endings(path: Path) -> str:
    """`(there are: .flac 120, .txt 3)`, the most frequent first."""
    counts = Counter(file.suffix for file in path.rglob("*") if file.is_file())
    told = ", ".join(f"{ending or 'no ending'} {count}" for ending, count in counts.most_common(5))
    return f" (there are: {told})" if told else " (it is empty)"
