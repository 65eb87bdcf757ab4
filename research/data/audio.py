"""Audio files -> samples: only the wanted segment is decoded, then averaged to mono and resampled."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from research.errors import HarkError

SLACK = 0.1  # s that a file may end early: durations are rounded, lossy codecs pad
# libsndfile 1.2.2 does not seek exactly in these: what comes before a segment is decoded too, then dropped
INEXACT = {"VORBIS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}
FAILURES = (soundfile.SoundFileError, OSError, TypeError)  # a TypeError is a file that has no header


class UndecodableError(Exception):
    """An utterance that cannot be read where it should be; the message names the file, `kind` is for counting."""

    def __init__(self, message: str, kind: str = "broken") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Header:
    rate: int  # Hz
    channels: int
    seconds: float


@dataclass(frozen=True)
class Frames:
    """What a file holds, as it holds it."""

    x: NDArray[np.float32]  # (N, channels)
    rate: int  # Hz

    @property
    def channels(self) -> int:
        return self.x.shape[1]


@dataclass(frozen=True)
class Clip:
    samples: NDArray[np.float32]  # (N,) at the rate that was asked for
    converted: bool  # resampled, or averaged over channels


def header(path: str) -> Header:
    """What a file says about itself; UndecodableError when it says nothing of use."""
    try:
        info = soundfile.info(path)
    except FAILURES as error:
        raise undecodable(path, error, missing=not Path(path).exists()) from None
    if info.samplerate <= 0 or info.frames <= 0:
        raise UndecodableError(f"{path}: holds no audio")
    return Header(info.samplerate, info.channels, info.frames / info.samplerate)


def read(path: str, offset: float, duration: float, sample_rate: int, *, strict: bool = False) -> Clip:
    """Decode `duration` seconds from `offset` on, as mono at `sample_rate`.

    UndecodableError as in `frames`. HarkError: it needs conversion, and `strict` forbids that.
    """
    found = frames(path, path, offset, duration)
    if strict:
        refuse(path, found.rate, found.channels, sample_rate)
    mono = resample(average(found.x), found.rate, sample_rate)  # (N',)
    return Clip(mono, converted=found.rate != sample_rate or found.channels > 1)


def frames(source: str | bytes, name: str, offset: float, duration: float) -> Frames:
    """Decode `duration` seconds from `offset` on of a file, given by its path or as its bytes.

    UndecodableError, with `name`: it is broken, missing, ends more than `SLACK` early, or holds NaN or infinite samples.
    """
    try:
        with soundfile.SoundFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
            rate = file.samplerate
            begin, count = round(offset * rate), round(duration * rate)
            skip = begin if file.subtype in INEXACT else 0
            if begin > skip:  # a seek to where the file stands would still cost the decoder a start
                file.seek(begin)
            x = file.read(skip + count, dtype="float32", always_2d=True)[skip:]  # (N, channels)
    except FAILURES as error:
        missing = isinstance(source, str) and not Path(source).exists()
        raise undecodable(name, error, missing=missing) from None
    if len(x) == 0 or len(x) < (duration - SLACK) * rate:
        wanted = f"{duration:.2f} s from {offset:.2f} s on"
        raise UndecodableError(f"{name}: gives {len(x) / rate:.2f} s instead of {wanted}", "too_short")
    refuse_infinite(name, x)
    return Frames(x, rate)


def refuse_infinite(name: str, x: NDArray[np.float32]) -> None:
    if not np.isfinite(x).all():
        raise UndecodableError(f"{name}: holds NaN or infinite samples", "not_finite")


def average(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make mono of all channels: (N, channels) -> (N,)."""
    return x.mean(1, dtype=np.float32) if x.shape[1] > 1 else x[:, 0]


def resample(x: NDArray[np.float32], rate: float, sample_rate: int) -> NDArray[np.float32]:
    """Change the rate: (N,) -> (N',), N' = N * sample_rate / rate, rounded."""
    return np.ascontiguousarray(x if rate == sample_rate else soxr.resample(x, rate, sample_rate))


def refuse(path: str, rate: int, channels: int, sample_rate: int) -> None:
    """HarkError when a file is not mono at `sample_rate`."""
    if rate != sample_rate or channels != 1:
        wanted = f"data.strict=true wants 1 and {sample_rate} Hz; convert the file or set it to false"
        raise HarkError(f"{path}: {channels} channels and {rate} Hz, {wanted}")


def undecodable(name: str, error: Exception, *, missing: bool) -> UndecodableError:
    if missing:
        return UndecodableError(f"{name}: is missing", "missing")
    reason = str(error).rsplit(": ", 1)[-1].strip().rstrip(".")
    return UndecodableError(f"{name}: cannot be decoded ({reason})")
