"""Samples of 16 bits <-> the bytes of an audio file: the same bytes every time."""

import zlib
from io import BytesIO
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from research.errors import HarkError

Samples = NDArray[np.int16]  # (N, channels)

FULL = 32_768  # what 1.0 is in 16 bits
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # Hz
PAGE = 27  # bytes of the header of an Ogg page, before its table of sizes
SERIAL, CHECK = slice(14, 18), slice(22, 26)  # in that header
MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Codec(NamedTuple):
    format: str
    subtype: str
    exact: bool  # gives back the samples that went in
    about: str


CODECS = {
    "flac": Codec("FLAC", "PCM_16", True, "16 bits, without loss where the source has no more"),
    "wav": Codec("WAV", "PCM_16", True, "16 bits, without loss where the source has no more"),
    "opus": Codec("OGG", "OPUS", False, "lossy, about a tenth of the size of flac"),
}


def quantize(x: NDArray[np.float32]) -> Samples:
    """Round to 16 bits, exactly where there were no more; what is beyond full scale is clipped."""
    return np.clip(np.rint(x * FULL), -FULL, FULL - 1).astype(np.int16)


def encode(samples: Samples, rate: int, name: str) -> bytes:
    """Encode (N, channels); HarkError when the codec does not know the rate or takes fewer channels."""
    codec = CODECS[name]
    if codec.format == "OGG" and rate not in OPUS_RATES:
        known = ", ".join(map(str, OPUS_RATES))
        raise HarkError(f"--codec {name}: takes {known} Hz, not {rate}; add --sample-rate 16000")
    file = BytesIO()
    try:
        soundfile.write(file, samples, rate, subtype=codec.subtype, format=codec.format)
    except soundfile.SoundFileError:
        raise HarkError(
            f"--codec {name}: takes no audio of {samples.shape[1]} channels at {rate} Hz; use --codec wav"
        ) from None
    return name_stream(file.getvalue()) if codec.format == "OGG" else file.getvalue()


def decode(data: bytes) -> tuple[Samples, int]:
    """Decode a file to (N, channels) and its rate (Hz)."""
    samples, rate = soundfile.read(BytesIO(data), dtype="int16", always_2d=True)
    return samples, rate


def name_stream(data: bytes) -> bytes:
    """Give an Ogg stream the serial number 0: libsndfile draws one from the clock (RFC 3533, section 6)."""
    pages, start = [], 0
    while start < len(data):
        table = start + PAGE
        body = table + data[table - 1]
        end = body + sum(data[table:body])
        page = bytearray(data[start:end])
        page[SERIAL] = page[CHECK] = bytes(4)
        page[CHECK] = checksum(bytes(page)).to_bytes(4, "little")
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


def checksum(page: bytes) -> int:
    """CRC of an Ogg page: that of zlib, but from the highest bit down and without its inversions."""
    mirrored = zlib.crc32(page.translate(MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
