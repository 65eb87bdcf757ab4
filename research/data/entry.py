"""One line of a manifest, in NeMo's JSONL: audio_filepath (or audio_filename), duration, offset, id, text, ..."""

import json
import math
import os
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple

import msgspec


class Entry(NamedTuple):
    duration: float  # s
    offset: float  # s into the file
    key: int  # hash of the id
    skip: bool  # marked `_skipme`
    stored: bool  # names features that `hark extract` wrote


class Plain(msgspec.Struct, gc=False):
    """A line in which nothing can be wrong that concerns its duration."""

    duration: Annotated[float, msgspec.Meta(gt=0)]
    audio_filepath: Annotated[str, msgspec.Meta(min_length=1)]
    offset: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    feature_path: None = None
    _skipme: None = None


PLAIN = msgspec.json.Decoder(Plain)


def parse(line: bytes, folder: str) -> Entry:
    """Check a line of a manifest that lies in `folder`; ValueError says what is wrong with it."""
    return check(as_object(line), folder)


def check(found: dict[str, Any], folder: str) -> Entry:
    """As `parse`, of a line that is an object already."""
    if found.get("_skipme"):
        return Entry(0.0, 0.0, 0, skip=True, stored=False)
    name = name_of(found, path_of(found, folder))
    duration, offset = number(found, "duration"), number(found, "offset", 0.0)
    if duration <= 0:
        raise ValueError(
            f'duration is {duration:g} s, it must be above 0; mend the line or add "_skipme": true'
        )
    if offset < 0:
        raise ValueError(f"offset is {offset:g} s, it must not be below 0")
    stored = found.get("feature_path") is not None
    if stored and not isinstance(found.get("feature_key"), str):
        raise ValueError("has a feature_path and no feature_key; see `hark extract`")
    return Entry(duration, offset, digest(name), skip=False, stored=stored)


def digest(name: str) -> int:
    """Stand for a name, in 64 bits."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")


def as_object(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = lenient(line)
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004  all that can be wrong with a line is one type
    return found


def lenient(line: bytes) -> Any:
    """Give what Python's own reader takes and the fast one does not, such as NaN; None for what is no JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def seconds_of(line: bytes, folder: str) -> float:
    """Duration of a line, 0 when it is marked `_skipme`: what `parse` says of it, sooner where it is plain."""
    try:
        return PLAIN.decode(line).duration
    except (msgspec.DecodeError, UnicodeDecodeError):
        return parse(line, folder).duration


def number(found: dict[str, Any], key: str, default: float | None = None) -> float:
    value = found.get(key)
    if value is None:
        value = default
    if value is None:
        raise ValueError(f"has no {key}; `hark prepare dir` measures a folder of audio")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}, it must be a number of seconds")
    return float(value)


def path_of(found: dict[str, Any], folder: str) -> str:
    """Where the audio is; relative paths start at the manifest's folder."""
    path = found.get("audio_filepath") or found.get("audio_filename")
    if not isinstance(path, str):
        raise ValueError("has no audio_filepath")  # noqa: TRY004  see above
    if path.startswith("~"):
        path = os.path.expanduser(path)  # noqa: PTH111  Path costs more than the JSON
    return os.path.join(folder, path)  # noqa: PTH118


def name_of(found: dict[str, Any], path: str) -> str:
    """The id: the key `id`, else the path, with the offset when there is one."""
    if found.get("id") is not None:
        return str(found["id"])
    offset = found.get("offset")
    return f"{path}@{offset}" if offset else path
