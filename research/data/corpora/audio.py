"""Any recording -> 16 kHz mono FLAC, and which recordings are worth keeping."""

import io

import numpy as np
import soundfile
import soxr
from G722 import G722
from numpy.typing import NDArray

Wave = NDArray[np.float32]

RATE = 16_000  # Hz
SHORTEST = 0.1  # seconds
QUIETEST = 3e-4  # root mean square


def decode(name: str, data: bytes) -> tuple[Wave, int]:
    """Decode a file to (N,) mono at its own rate, and that rate in Hz; the name's ending tells the format."""
    ending = name.rsplit(".", 1)[-1].lower()
    if ending == "g722":
        wave: Wave = np.asarray(G722(RATE, 64_000).decode(data), np.float32) / np.float32(32_768)
        rate = RATE
    elif ending == "gsm":
        raw = {"format": "RAW", "subtype": "GSM610", "samplerate": 8000, "channels": 1}
        wave, rate = soundfile.read(io.BytesIO(data), dtype="float32", **raw)
    else:
        wave, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    if wave.ndim > 1:
        wave = wave.mean(1)  # (N,)
    return wave, rate


def standard(wave: Wave, rate: int) -> Wave:
    """Resample (N,) to 16 kHz and scale a peak above 1 down to it."""
    wave = soxr.resample(wave, rate, RATE).astype(np.float32)  # (N,)
    return wave / max(1.0, float(np.abs(wave).max(initial=0.0)))


def flaw(wave: Wave) -> str:
    """Why a 16 kHz recording is useless, or nothing."""
    if len(wave) < SHORTEST * RATE:
        return "short"
    return "quiet" if np.sqrt(np.mean(np.square(wave))) < QUIETEST else ""


def pieces(wave: Wave, longest: float) -> list[Wave]:
    """Cut (N,) into equal parts of at most `longest` seconds."""
    count = max(1, -(-len(wave) // int(longest * RATE)))
    return np.array_split(wave, count)


def flac(wave: Wave) -> bytes:
    """Encode a 16 kHz (N,) as 16-bit FLAC."""
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, subtype="PCM_16", format="FLAC")
    return file.getvalue()
