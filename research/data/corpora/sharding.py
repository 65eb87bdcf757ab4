"""What passes between the makers of sharded sets, and what a layout has to know."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from research.data.corpora.codec import Samples
from research.data.manifest import Manifest

PARTS = ".parts"
WHERE = {"audio_filepath", "audio_filename", "duration", "offset", "id"}  # keys that a layout writes anew


class Piece(NamedTuple):
    """An utterance on its way into a shard."""

    id: str
    said: dict[str, Any]  # its line in the manifest
    samples: Samples  # (N, channels)
    rate: int  # Hz

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    @property
    def rest(self) -> dict[str, Any]:
        """What its line says beyond where the audio is; the offset under the name that NeMo gives it then."""
        rest = {key: value for key, value in self.said.items() if key not in WHERE}
        if "sampling_rate" in rest:
            rest["sampling_rate"] = self.rate
        return rest | ({"source_audio_offset": self.said["offset"]} if self.said.get("offset") else {})


class Stored(NamedTuple):
    """An utterance that was read back."""

    name: str
    wanted: int  # samples that its line tells
    samples: Samples  # (N, channels)


class Layout(ABC):
    """How a set of shards lies in its folder."""

    @abstractmethod
    def files(self, number: int) -> list[str]:
        """Names of the files of a shard, relative to the set's folder."""

    @abstractmethod
    def write(self, folder: Path, number: int, pieces: Iterable[Piece], codec: str) -> None:
        """Write a shard's files into `folder`, one piece after the other."""

    @abstractmethod
    def read(self, folder: Path, number: int) -> Iterator[Stored]:
        """Read a shard back, in the order it was written."""

    @abstractmethod
    def finish(self, out: Path, shards: int) -> None:
        """Write what belongs to all shards together."""

    @abstractmethod
    def taken_by(self, shards: int) -> str:
        """Tell what readers are to be given."""


class Job(NamedTuple):
    layout: Layout
    out: Path
    number: int
    speech: Manifest  # the utterances of the shard alone
    codec: str
    sample_rate: int | None  # Hz; None: as it is

    @property
    def note(self) -> Path:
        return self.out / PARTS / f"{self.number:06d}.json"


@dataclass
class Made:
    """What a shard holds."""

    utterances: int = 0
    seconds: float = 0.0
    clipped: int = 0  # utterances that went beyond full scale
    bad: list[str] = field(default_factory=list)  # why an utterance was left out
    files: dict[str, tuple[int, str]] = field(default_factory=dict)  # name -> bytes, SHA-256
