"""Lines of NeMo's manifests: audio anywhere, or in tars."""

import re
from typing import Any

import numpy as np

from research.data.entry import Entry, as_object, check, digest
from research.data.streams.clip import Format
from research.data.streams.lines import PLAIN, Facts, Kind

TARRED = np.dtype(
    [
        ("duration", "f4"),  # s
        ("key", "u8"),  # hash of the id
        ("member", "u8"),  # hash of the name that the line gives
        ("file", "u8"),  # the same without -sub<k>: further segments of one file, which the tar has once
        ("shard", "i4"),  # which tar; -1 where the line does not say
        ("start", "i8"),  # of the line, bytes into the file as it is unpacked
    ]
)
SUB = re.compile(r"-sub\d+(?=(\.\w+)?$)")


def plain(line: bytes, folder: str) -> Facts:
    entry = heard(as_object(line), folder)
    return "_skipme" if entry.skip else (entry.duration, entry.key)


def tarred(line: bytes, folder: str) -> Facts:
    found = as_object(line)
    entry = heard(found, folder)
    if entry.skip:
        return "_skipme"
    name = str(found.get("audio_filepath") or found.get("audio_filename")).removeprefix("./")
    shard = found.get("shard_id", -1)
    if isinstance(shard, bool) or not isinstance(shard, int):
        raise ValueError(f"shard_id is {shard!r}, it must be the number of a tar")  # noqa: TRY004  see entry.py
    return entry.duration, entry.key, digest(name), digest(SUB.sub("", name)), shard


def heard(found: dict[str, Any], folder: str) -> Entry:
    """Check a line; ValueError when it is not of audio."""
    entry = check(found, folder)
    if entry.stored:
        raise ValueError("names features that `hark extract` wrote; data=manifest reads these")
    return entry


NEMO = Kind("nemo", Format.nemo, PLAIN, plain)
NEMO_TARRED = Kind("nemo_tarred", Format.nemo, TARRED, tarred)
