"""What was said in an utterance of a stream."""

from typing import Any

from research.data.entry import as_object
from research.data.streams.clip import Clip, Format
from research.errors import HarkError


def said(clip: Clip, name: str) -> str:
    """The `text` of a line, or of all of a cut's supervisions in the order of time; "" where nobody wrote it down.

    HarkError: there is none, not even an empty one.
    """
    line = as_object(clip.line)
    texts = [line.get("text")] if clip.format is Format.nemo else of_supervisions(line)
    if not texts or not all(isinstance(text, str) for text in texts):
        where = "text" if clip.format is Format.nemo else "supervision with a text"
        raise HarkError(
            f"{clip.folder}: utterance '{name}' has no {where}, and this objective learns what was said; write it there, or "
            '"text": "" for an utterance that nobody wrote down'
        )
    return " ".join(text for text in texts if text)


def of_supervisions(line: dict[str, Any]) -> list[Any]:
    """Texts of a cut, or of all the cuts that are mixed or appended in it."""
    tracks = line.get("tracks") or [{"cut": line}]
    parts = [
        (track.get("offset", 0.0) + part.get("start", 0.0), part.get("text"))
        for track in tracks
        for part in track["cut"].get("supervisions") or []
    ]
    return [text for _, text in sorted(parts, key=lambda part: part[0])]
