"""One shard: utterances are decoded, stored as the layout wants it, read back, and put where they belong.

<out>/.parts/NNNNNN.json   what a finished shard holds: it is not made again
<out>/.parts/NNNNNN.PID/   a shard that is being written
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

from research.data import audio
from research.data.corpora import codec
from research.data.corpora.codec import Samples
from research.data.corpora.sharding import Job, Made, Piece
from research.errors import HarkError
from research.files import write


def finished(job: Job) -> Made | None:
    """What the shard holds, when it is there already."""
    if not job.note.exists():
        return None
    made = Made(**json.loads(job.note.read_text()))
    files = ((job.out / name, size) for name, (size, _) in made.files.items())
    return made if all(file.exists() and file.stat().st_size == size for file, size in files) else None


def make(job: Job) -> Made:
    """Write a shard, read it back, and move it to its place; HarkError when none of it can be decoded."""
    made, digests = Made(), list[bytes]()
    names = job.layout.files(job.number)
    part = job.note.with_name(f"{job.number:06d}.{os.getpid()}")
    try:
        for folder in (file.parent for name in names for file in (part / name, job.out / name)):
            folder.mkdir(parents=True, exist_ok=True)
        job.layout.write(part, job.number, pieces(job, made, digests), job.codec)
        verify(job, part, made, digests)
        for name in names:
            made.files[name] = sync(part / name)
        for name in names:
            (part / name).replace(job.out / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    write(job.note, json.dumps(asdict(made), ensure_ascii=False))
    return made


def pieces(job: Job, made: Made, digests: list[bytes]) -> Iterator[Piece]:
    """Decode the utterances of a shard and book them; those that cannot be decoded are left out."""
    for row in range(len(job.speech)):
        one, said = job.speech.utterance(row), job.speech.extra(row)  # noqa: S610  not Django's
        try:
            found = audio.frames(one.path, one.path, one.offset, one.duration)
        except audio.UndecodableError as error:
            made.bad.append(f"{one.id}: {error}")
            continue
        rate = job.sample_rate or found.rate
        x = audio.resample(found.x, found.rate, rate)  # (N, channels)
        samples = codec.quantize(x)
        made.utterances += 1
        made.seconds += len(samples) / rate
        made.clipped += bool(abs(x).max() > 1.0)
        digests.append(digest(samples))
        yield Piece(one.id, said, samples, rate)


def digest(samples: Samples) -> bytes:
    return hashlib.blake2b(samples.tobytes(), digest_size=16).digest()


def verify(job: Job, part: Path, made: Made, digests: list[bytes]) -> None:
    """HarkError when nothing was written, or what lies on the disk is not what was meant to."""
    if not digests:
        raise HarkError(
            f"{job.out}: none of the {len(made.bad)} utterances of shard {job.number} can be decoded "
            f"({made.bad[0]}); mend the manifest or ask for fewer shards"
        )
    for one, wanted in zip_longest(job.layout.read(part, job.number), digests):
        if one is None or wanted is None:
            problem = f"not the {len(digests)} utterances that were written"
        elif len(one.samples) != one.wanted:
            problem = f"{len(one.samples)} samples of {one.name} instead of {one.wanted}"
        elif codec.CODECS[job.codec].exact and digest(one.samples) != wanted:
            problem = f"other samples of {one.name} than were written"
        else:
            continue
        raise HarkError(f"{job.out}: shard {job.number} reads back as {problem}; is the disk sound?")


def sync(file: Path) -> tuple[int, str]:
    """Make sure that a file is on the disk; give its size (bytes) and SHA-256."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        return os.fstat(opened.fileno()).st_size, hashlib.file_digest(opened, "sha256").hexdigest()
