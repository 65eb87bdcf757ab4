"""Cuts that lhotse has to load: mixed, transformed, of several sources, or of formats beyond libsndfile's."""

import os
from typing import Any

import numpy as np

from research.data.audio import SLACK, Frames, UndecodableError, refuse_infinite
from research.data.streams.clip import Clip

STRAIGHT = (".wav", ".flac", ".ogg", ".opus", ".mp3")  # what lhotse leaves to libsndfile


def plain(line: dict[str, Any]) -> dict[str, Any] | None:
    """Give the only source of a cut that is heard as it is; None when lhotse has to load it."""
    if line.get("type") == "MixedCut":
        return None
    recording = line.get("recording")
    if recording is None:  # it stands beside the audio, in a Shar
        return {"channels": channels(line)}
    sources = recording["sources"]
    if recording.get("transforms") or len(sources) != 1:
        return None
    kind, source = sources[0]["type"], sources[0]["source"]
    straight = kind == "shar" or (kind == "file" and source.lower().endswith(STRAIGHT))
    return sources[0] if straight else None


def channels(line: dict[str, Any]) -> list[int]:
    """The channels of its recording that a cut has."""
    found = line.get("channel", 0)
    return found if isinstance(found, list) else [found]


def load(clip: Clip, line: dict[str, Any], data: bytes | None, where: str) -> Frames:
    """Load a part of a cut through lhotse, at the cut's own rate.

    `data` is the audio of a Shar. UndecodableError: lhotse gives an error, less than is wanted, or NaN.
    """
    from lhotse.cut import MixedCut  # noqa: PLC0415
    from lhotse.serialization import deserialize_item  # noqa: PLC0415
    from lhotse.shar.utils import fill_shar_placeholder  # noqa: PLC0415

    span = clip.duration * clip.speed
    try:
        cut = deserialize_item(rooted({"type": "MonoCut"} | line, clip.folder))
        if data is not None:
            fill_shar_placeholder(cut, data, clip.audio.path if clip.audio else "", "recording")
        if isinstance(cut, MixedCut):  # its `truncate` would lose its transforms, and change levels
            begin = round(clip.start * cut.sampling_rate)
            x = cut.load_audio()[:, begin : begin + round(span * cut.sampling_rate)]  # (channels, N)
        else:
            x = cut.truncate(offset=clip.start, duration=span, preserve_id=True).load_audio()  # (channels, N)
    except Exception as error:  # noqa: BLE001  whatever lhotse and its backends raise
        raise UndecodableError(f"{where}: lhotse cannot load it ({told(error)})") from None
    rate = int(cut.sampling_rate)
    if x.shape[1] == 0 or x.shape[1] < (span - SLACK) * rate:
        wanted = f"{span:.2f} s from {clip.start:.2f} s on"
        raise UndecodableError(f"{where}: gives {x.shape[1] / rate:.2f} s instead of {wanted}", "too_short")
    refuse_infinite(where, x)
    return Frames(np.ascontiguousarray(x.T, dtype=np.float32), rate)


def rooted(value: Any, folder: str) -> Any:
    """Copy a cut's JSON, with the paths of all its files, those of transforms too, from `folder` on."""
    if isinstance(value, dict):
        if value.get("type") == "file":
            return value | {"source": os.path.join(folder, value["source"])}  # noqa: PTH118  keeps absolute ones
        return {key: rooted(one, folder) for key, one in value.items()}
    return [rooted(one, folder) for one in value] if isinstance(value, list) else value


def told(error: Exception) -> str:
    """One line of an error of lhotse, which quotes whole objects after its reason."""
    lines = str(error).split("[extra info]")[0].split()
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"
