"""A clip -> samples. A file that is heard as it is goes straight to libsndfile; mixes and transforms go to lhotse."""

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from io import FileIO
from typing import Any, NamedTuple

import numpy as np

from research.config import Streams
from research.data import audio
from research.data.audio import Frames, UndecodableError
from research.data.entry import as_object, name_of, number, path_of
from research.data.noise import Samples
from research.data.streams.by_lhotse import channels, load, plain
from research.data.streams.clip import Address, Clip, Format

Line = dict[str, Any]


class Found(NamedTuple):
    """What a line points to."""

    id: str
    where: str  # for messages
    frames: Frames


def decode(clip: Clip, tags: Mapping[str, Any], cfg: Streams) -> tuple[str, audio.Clip]:
    """Read what is to be heard of an utterance: its id, and its samples, mono at `cfg.sample_rate`.

    UndecodableError: as in `audio.frames`; or the line does not say what to read, or names a channel that is not there.
    HarkError: it needs conversion, and `cfg.strict` forbids that.
    """
    try:
        line = as_object(clip.line)
        found = of_line(clip, line) if clip.format is Format.nemo else of_cut(clip, line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UndecodableError(f"{clip.folder}: cannot use the line {clip.line[:100]!r} ({told})") from None
    rate, count = found.frames.rate, found.frames.channels
    if cfg.strict:
        audio.refuse(found.where, rate, count, cfg.sample_rate)
    mono = pick(found, cfg.channel, (line, line.get("custom") or {}, tags))  # (N,)
    averaged = count > 1 and cfg.channel == "average"
    return found.id, audio.Clip(heard(mono, rate, clip, cfg.sample_rate), rate != cfg.sample_rate or averaged)


def of_line(clip: Clip, line: Line) -> Found:
    """Read what a line of a NeMo manifest describes."""
    start, span = number(line, "offset", 0.0) + clip.start, clip.duration * clip.speed
    path = path_of(line, clip.folder)
    name = name_of(line, path)
    if clip.audio is None:
        return Found(name, path, audio.frames(path, path, start, span))
    where = f"{clip.audio.path}:{path_of(line, '')}"
    return Found(name, where, audio.frames(member(clip.audio, where), where, start, span))


def of_cut(clip: Clip, line: Line) -> Found:
    """Read what a cut of lhotse describes."""
    name, source = str(line["id"]), plain(line)
    where = name if clip.audio is None else f"{clip.audio.path}:{name}"
    data = None if clip.audio is None else member(clip.audio, where)
    if source is None:
        return Found(name, where, load(clip, line, data, where))
    if data is None:
        where = os.path.join(clip.folder, source["source"])  # noqa: PTH118  Path costs more than the JSON
    start, span = line["start"] + clip.start, clip.duration * clip.speed
    frames = audio.frames(where if data is None else data, where, start, span)
    wanted, there = channels(line), source["channels"][: frames.channels]
    if not set(wanted) <= set(there):
        raise UndecodableError(f"{where}: has the channels {there}, the cut wants {wanted}")
    if wanted != there or len(there) < frames.channels:
        frames = Frames(frames.x[:, [there.index(channel) for channel in wanted]], frames.rate)
    return Found(name, where, frames)


def member(address: Address, where: str) -> bytes:
    """Read a member of a tar."""
    try:
        file = opened(address.path)  # held: the cache may close it
        data = os.pread(file.fileno(), address.size, address.offset)
    except OSError as error:
        kind = "missing" if isinstance(error, FileNotFoundError) else "broken"
        raise UndecodableError(f"{where}: cannot be read ({error.strerror})", kind) from None
    if len(data) < address.size:
        raise UndecodableError(f"{where}: the tar ends before its member does")
    return data


@lru_cache(maxsize=256)
def opened(path: str) -> FileIO:
    """Open a tar, once per process."""
    return FileIO(path)


def pick(found: Found, channel: Any, places: Sequence[Mapping[str, Any]]) -> Samples:
    """Make mono as `data.channel` wants it: (N, channels) -> (N,). A key is looked up in one place after the other."""
    x = found.frames.x
    if channel == "average":
        return audio.average(x)
    chosen = channel
    if isinstance(channel, str):
        chosen = next((place[channel] for place in places if channel in place), None)
    if isinstance(chosen, bool) or not isinstance(chosen, int):
        raise UndecodableError(
            f"{found.where}: data.channel={channel}: its line gives no such number ({chosen!r})"
        )
    if not 0 <= chosen < x.shape[1]:
        raise UndecodableError(
            f"{found.where}: data.channel={channel}: has {x.shape[1]} channels, not {chosen}"
        )
    return x[:, chosen]


def heard(x: Samples, rate: int, clip: Clip, sample_rate: int) -> Samples:
    """Give samples their rate and speed: (N,) -> (N',).

    At another speed N' is what `clip.duration` says, less what the file lacks.
    """
    y = audio.resample(x, round(rate * clip.speed, 6), sample_rate)  # (N',), give or take one
    if clip.speed == 1:
        return y
    early = max(0, round(clip.duration * clip.speed * rate) - len(x)) / (rate * clip.speed)  # s
    size = round((clip.duration - early) * sample_rate)
    return np.pad(y, (0, max(0, size - len(y))))[:size]  # (N',)
