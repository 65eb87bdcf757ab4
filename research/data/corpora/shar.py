"""lhotse's Shar: shar/cuts.NNNNNN.jsonl.gz and shar/recording.NNNNNN.tar, for `CutSet.from_shar(in_dir="shar")`.

The folder holds nothing else, for lhotse takes any other file for a field of the cuts. Its own writers are not used:
they put the time into the header of the gzip file.
"""

import gzip
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from lhotse import AudioSource, CutSet, Recording, SupervisionSegment

from research.data.corpora import codec as codecs
from research.data.corpora.sharding import Layout, Piece, Stored
from research.data.corpora.tar import add, as_line

SAID = {"text": "text", "speaker": "speaker", "lang": "language"}  # key of a line -> of a supervision


class Shar(Layout):
    def files(self, number: int) -> list[str]:
        return [f"shar/cuts.{number:06d}.jsonl.gz", f"shar/recording.{number:06d}.tar"]

    def write(self, folder: Path, number: int, pieces: Iterable[Piece], codec: str) -> None:
        lines, audio = (folder / name for name in self.files(number))
        cuts = []
        with tarfile.open(audio, "w") as tar:
            for piece in pieces:
                cut = cut_of(piece)
                add(tar, f"{cut.id}.{codec}", codecs.encode(piece.samples, piece.rate, codec))
                add(tar, f"{cut.id}.json", as_line(cut.recording.to_dict()))
                cuts.append(as_line(cut.to_dict()))
        lines.write_bytes(gzip.compress(b"".join(cuts), mtime=0))

    def read(self, folder: Path, number: int) -> Iterator[Stored]:
        for cut in CutSet.from_shar(in_dir=folder / "shar"):
            samples, _ = codecs.decode(cut.recording.sources[0].source)
            yield Stored(cut.id, cut.num_samples, samples)

    def finish(self, out: Path, shards: int) -> None:
        pass

    def taken_by(self, shards: int) -> str:
        return "data.train and CutSet.from_shar(in_dir=...) take the folder shar/"


def cut_of(piece: Piece) -> Any:
    """Give a cut of a whole recording; what its line says beside the words, speaker and language is custom."""
    key = safe(piece.id)
    channels = list(range(piece.samples.shape[1]))
    source = AudioSource("shar", channels, "")
    recording = Recording(key, [source], piece.rate, len(piece.samples), piece.seconds, channels)
    cut = recording.to_cut()
    rest = piece.rest
    said = {word: rest.pop(name) for name, word in SAID.items() if name in rest}
    if said:
        channel = cut.channel
        cut.supervisions = [SupervisionSegment(key, key, 0.0, cut.duration, channel, **said)]
    cut.custom = rest | ({} if key == piece.id else {"id": piece.id}) or None
    return cut


def safe(name: str) -> str:
    """Give an id under which lhotse finds a file of a tar again: the same, or one with what hinders as %XX."""
    file = PurePosixPath(f"{name}.x")
    whole = str(file.parent / file.stem) == name and not file.is_absolute() and ".." not in file.parts
    return name if whole and name.isprintable() and "%" not in name else quote(name, safe="") or "%"
