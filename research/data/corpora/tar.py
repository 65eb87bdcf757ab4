"""Tars in NeMo's layout: audio_N.tar, sharded_manifests/manifest_N.json, and all lines in one manifest.

Every utterance is a file of its own, also where several are segments of one recording: readers take a name that ends
in `-sub<k>` for a segment of the file without that ending, so no name here ends so.
"""

import json
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from research.data.corpora import codec as codecs
from research.data.corpora.sharding import PARTS, Layout, Piece, Stored

SEGMENT = re.compile(r"-(?=sub\d+$)")


class Tar(Layout):
    def files(self, number: int) -> list[str]:
        return [f"sharded_manifests/manifest_{number}.json", f"audio_{number}.tar"]

    def write(self, folder: Path, number: int, pieces: Iterable[Piece], codec: str) -> None:
        lines, audio = (folder / name for name in self.files(number))
        taken: set[str] = set()
        with lines.open("wb") as manifest, tarfile.open(audio, "w") as tar:
            for piece in pieces:
                name = f"{free(flat(piece.id), taken)}.{codec}"
                add(tar, name, codecs.encode(piece.samples, piece.rate, codec))
                where = {"id": piece.id, "audio_filepath": name, "duration": piece.seconds}
                manifest.write(as_line(where | piece.rest | {"shard_id": number}))

    def read(self, folder: Path, number: int) -> Iterator[Stored]:
        lines, audio = (folder / name for name in self.files(number))
        with lines.open("rb") as manifest, tarfile.open(audio) as tar:
            for text, member in zip(manifest, tar, strict=True):
                line, file = json.loads(text), tar.extractfile(member)
                assert file is not None
                samples, rate = codecs.decode(file.read())
                yield Stored(line["audio_filepath"], round(line["duration"] * rate), samples)

    def finish(self, out: Path, shards: int) -> None:
        part = out / PARTS / "manifest.part"
        with part.open("wb") as joined:
            for number in range(shards):
                with (out / self.files(number)[0]).open("rb") as lines:
                    shutil.copyfileobj(lines, joined)
        part.replace(out / "tarred_audio_manifest.json")

    def taken_by(self, shards: int) -> str:
        every = f"_OP_0..{shards - 1}_CL_"
        nemo = f"sharded_manifests/manifest_{every}.json and audio_{every}.tar"
        return f"data.train takes this folder; NeMo takes {nemo}"


def flat(name: str) -> str:
    """Make one word of an id: readers cut names at the first dot, and take no folders."""
    return SEGMENT.sub("_", re.sub(r"[/.\0]", "_", name))


def free(name: str, taken: set[str]) -> str:
    """Give the name, numbered when another utterance of the shard has it; take it."""
    found, number = name, 1
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found


def as_line(values: dict[str, Any]) -> bytes:
    """A line of JSON; half a surrogate pair stays as JSON escapes it."""
    return (json.dumps(values, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file with a header that says nothing of when and by whom it was written."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, BytesIO(data))
