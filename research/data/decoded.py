"""Decoded audio on a local disk: the first epoch decodes, the later ones copy."""

import hashlib
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from research.config import Data
from research.data.audio import SLACK, Clip
from research.data.manifest import Manifest
from research.errors import HarkError

log = logging.getLogger(__name__)

WHOLE = slice(None)
BOOT = Path("/proc/sys/kernel/random/boot_id")


class Files(NamedTuple):
    """Descriptors; `pread` and `pwrite` move no position, so threads and processes share them."""

    samples: int
    numbers: int


class Decoded:
    """Samples of a manifest's utterances, bit by bit as they were decoded, kept by whoever decodes them first.

    One file has the samples, float32, every utterance at a place of its own; another how many there are of each: 0
    while there are none, below 0 when the utterance was converted. Samples are written before their number, so what
    has a number is whole, whoever was killed. A crash of the machine may lose one and not the other: after a boot,
    both files begin anew. Audio is taken to be what it was as long as its manifest is.
    """

    def __init__(self, speech: Manifest, cfg: Data) -> None:
        """HarkError: the folder `data.cache` cannot be written."""
        sizes = np.ceil((speech.durations + SLACK) * cfg.sample_rate).astype(np.int64)
        self.starts = np.append(0, np.cumsum(sizes))  # (U + 1,) samples
        key = hashlib.sha256(repr((speech.sources, cfg.sample_rate, cfg.strict)).encode())
        for column in ("source", "start"):  # which lines: others may be too short or too long
            key.update(speech.rows[column].tobytes())
        boot = BOOT.read_text().strip() if BOOT.exists() else "unknown"
        folder, name = Path(cfg.cache).expanduser(), key.hexdigest()[:16]
        self.path = folder / f"{name}-{boot}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob(f"{name}-*"):
                if not old.name.startswith(self.path.name):
                    old.unlink(missing_ok=True)
            self.files()
        except OSError as error:
            raise HarkError(f"data.cache={cfg.cache}: cannot be written ({error.strerror})") from None
        self.full = False

    def files(self) -> Files:
        return opened(self.path, int(self.starts[-1]), len(self.starts) - 1)

    def get(self, row: int, part: slice = WHOLE) -> Clip | None:
        """Give what is kept of an utterance, or of some samples of it."""
        files, number = self.files(), np.zeros(1, np.int32)
        os.preadv(files.numbers, [number.data], 4 * row)
        if number[0] == 0:
            return None
        begin, end, _ = part.indices(abs(int(number[0])))
        samples = np.empty(end - begin, np.float32)  # (N,)
        os.preadv(files.samples, [samples.data], 4 * (int(self.starts[row]) + begin))
        return Clip(samples, converted=bool(number[0] < 0))

    def put(self, row: int, clip: Clip) -> None:
        """Keep an utterance, if there is room; a disk that is full costs time, nothing else."""
        size, files = len(clip.samples), self.files()
        if self.full or size > self.starts[row + 1] - self.starts[row]:
            return
        number = np.array([-size if clip.converted else size], np.int32)
        try:
            whole = os.pwrite(files.samples, clip.samples.data, 4 * int(self.starts[row])) == 4 * size
            if whole:
                os.pwrite(files.numbers, number.data, 4 * row)
                return
            reason = "no room is left"
        except OSError as error:
            reason = error.strerror or str(error)
        self.full = True
        log.warning("%s: decoded audio is kept no longer (%s)", self.path, reason)


@lru_cache(maxsize=64)
def opened(path: Path, samples: int, utterances: int) -> Files:
    """Open both files, or make them, once per process; what is not written takes no room."""
    made = []
    for ending, size in ((".f32", 4 * samples), (".n", 4 * utterances)):
        file = os.open(f"{path}{ending}", os.O_RDWR | os.O_CREAT, 0o644)
        if os.fstat(file).st_size != size:
            os.ftruncate(file, size)
        made.append(file)
    return Files(*made)
