"""A recording with what its source says about it, rendered to files and manifest rows."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from research.data.corpora import audio
from research.data.corpora.corpus import Row
from research.files import write

Segment = tuple[float, float, str]  # start s, end s, label


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording as its source has it."""

    key: str  # names it inside its source
    file: str  # its name there; the ending tells the format
    data: bytes
    kind: str
    word: str  # what is said or heard, as the source names it
    lang: str = ""
    speaker: str = ""
    text: str = ""
    phones: list[Segment] | None = None

    @property
    def digest(self) -> str:
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()


def render(clip: Clip, out: Path, source: str, longest: float) -> list[Row | str]:
    """Write a recording in pieces of at most `longest` seconds; each gives its row, or the reason to drop it."""
    wave, rate = audio.decode(clip.file, clip.data)
    cut = audio.pieces(audio.standard(wave, rate), longest)
    keys = [clip.key] if len(cut) == 1 else [f"{clip.key}-{i:03d}" for i in range(len(cut))]
    return [
        audio.flaw(piece) or save(piece, clip, out / source, key, rate)
        for piece, key in zip(cut, keys, strict=True)
    ]


def save(wave: audio.Wave, clip: Clip, folder: Path, key: str, rate: int) -> Row:
    """Write `folder/key.flac` and give its row."""
    slug = re.sub(r"\W+", "-", key).strip("-")
    write(folder / f"{slug}.flac", audio.flac(wave))
    row = {
        "id": f"{folder.name}-{slug}",
        "audio_filepath": f"{folder.name}/{slug}.flac",
        "duration": len(wave) / audio.RATE,
        "text": clip.text,
        "lang": clip.lang,
        "speaker": clip.speaker,
        "source": folder.name,
        "kind": clip.kind,
        "word": clip.word,
        "sr0": rate,
    }
    return row | ({"phones": clip.phones} if clip.phones else {}) | {"digest": clip.digest}
