"""Manifests: which utterances there are, as columns; the rest of a line is read again when somebody asks."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.config import Data
from research.data import audio
from research.data.cached import stamp
from research.data.entry import name_of, path_of
from research.data.scan import Rows, line_at, rows_of
from research.errors import HarkError


class Source(NamedTuple):
    """One manifest file, as it was when it was loaded."""

    path: Path
    size: int
    changed: int  # ns


class Utterance(NamedTuple):
    id: str
    path: str
    offset: float  # s into the file
    duration: float  # s


@dataclass(frozen=True)
class Manifest:
    """The utterances of one or several manifest files, numbered from 0."""

    sources: tuple[Source, ...]
    rows: Rows  # (U,)
    left_out: dict[str, int]  # reason -> utterances

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def durations(self) -> NDArray[np.float64]:
        """Seconds, (U,)."""
        return np.ascontiguousarray(self.rows["duration"])

    @property
    def stored(self) -> bool:
        """Whether its utterances are features that `hark extract` wrote."""
        return bool(self.rows["stored"][0])

    def folder(self, i: int) -> str:
        """Where relative paths of utterance `i` start."""
        return str(self.sources[self.rows["source"][i]].path.parent)

    def extra(self, i: int) -> dict[str, Any]:
        """Everything that the line of utterance `i` says: text, phones, labels, ..."""
        source = self.sources[self.rows["source"][i]]
        file = opened(source)  # held: of two threads that open it at once, one has a file that no cache keeps
        try:
            return line_at(file.fileno(), self.rows[i])
        except ValueError:
            raise HarkError(f"{source.path}: changed while it was in use; start again") from None

    def utterance(self, i: int) -> Utterance:
        row, found = self.rows[i], self.extra(i)  # noqa: S610  not Django's
        path = path_of(found, self.folder(i))
        return Utterance(name_of(found, path), path, float(row["offset"]), float(row["duration"]))

    def where(self, i: int) -> str:
        """`train.jsonl:17`."""
        return f"{self.sources[self.rows['source'][i]].path}:{self.rows['line'][i]}"


def load(paths: Sequence[str | Path], cfg: Data, *, headers: bool = True) -> Manifest:
    """Load manifests as one; utterances outside `cfg.min_seconds` to `cfg.max_seconds` are left out and counted.

    The first time, every line is checked and the header of every audio file read; then a cache answers. On several
    ranks, let one go first. `headers=False` leaves the audio files alone. HarkError names file and line of what is
    wrong: broken JSON, no path, no positive duration, a missing file, a segment past the end, an id given twice.
    """
    if not paths:
        raise HarkError("no manifest is named: data.train=[path/to/train.jsonl]")
    sources = tuple(source_of(path) for path in paths)
    parts = [rows_of(source.path, headers=headers) for source in sources]
    for number, part in enumerate(parts):
        part["source"] = number
        if len(part) == 0:
            raise HarkError(f"{sources[number].path}: this manifest is empty")
    rows = np.concatenate(parts) if len(parts) > 1 else parts.pop()
    parts.clear()  # of millions of rows, two copies are enough
    manifest = within(Manifest(sources, rows, {}), cfg)
    check_ids(manifest)
    check_stored(manifest)
    if cfg.strict:
        check_strict(manifest, cfg.sample_rate)
    return manifest


def load_noise(paths: Sequence[str | Path], cfg: Data, *, headers: bool = True) -> Manifest:
    """Load manifests of a noise corpus: as `load`, but clips of any duration stay."""
    return load(paths, replace(cfg, min_seconds=0.0, max_seconds=math.inf), headers=headers)


def within(manifest: Manifest, cfg: Data) -> Manifest:
    """Leave out what is marked `_skipme`, too short, or too long."""
    rows = manifest.rows
    out = {
        "_skipme": rows["skip"],
        f"under {cfg.min_seconds:g} s": ~rows["skip"] & (rows["duration"] < cfg.min_seconds),
        f"over {cfg.max_seconds:g} s": rows["duration"] > cfg.max_seconds,
    }
    left = np.logical_or.reduce(list(out.values()))
    kept = rows[~left] if left.any() else rows
    counts = {reason: int(mask.sum()) for reason, mask in out.items() if mask.any()}
    if len(kept) == 0:
        told = ", ".join(f"{count} {reason}" for reason, count in counts.items())
        raise HarkError(
            f"{manifest.sources[0].path}: every utterance is left out ({told}); see data.min_seconds"
        )
    return Manifest(manifest.sources, kept, counts)


def check_ids(manifest: Manifest) -> None:
    """HarkError when two utterances have the same id."""
    keys = manifest.rows["key"]
    ordered = np.sort(keys)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    suspects = np.flatnonzero(np.isin(keys, twice)) if len(twice) else twice  # equal hashes: mostly equal ids
    order = suspects[np.argsort(keys[suspects], kind="stable")]
    for place in np.flatnonzero(keys[order][1:] == keys[order][:-1]):
        first, second = order[place], order[place + 1]
        name = manifest.utterance(second).id
        if manifest.utterance(first).id == name:
            raise HarkError(
                f"{manifest.where(second)}: id '{name}' is taken by {manifest.where(first)}; "
                'leave one line out or give them different "id"s'
            )


def check_stored(manifest: Manifest) -> None:
    """HarkError when some utterances are stored features and others audio."""
    for i in np.flatnonzero(manifest.rows["stored"] != manifest.stored)[:1]:
        other = "features" if manifest.stored else "audio"
        raise HarkError(f"{manifest.where(i)}: is not of the kind of {manifest.where(0)}, which is {other}")


def check_strict(manifest: Manifest, sample_rate: int) -> None:
    """HarkError when a file whose header is known would need conversion."""
    rows = manifest.rows
    other = (rows["rate"] != sample_rate) | (rows["channels"] != 1)
    for i in np.flatnonzero(other & (rows["rate"] > 0))[:1]:
        audio.refuse(manifest.utterance(i).path, rows["rate"][i], rows["channels"][i], sample_rate)


def source_of(path: str | Path) -> Source:
    file = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  keeps symbolic links
    try:
        return Source(file, *stamp(file))
    except OSError as error:
        raise HarkError(f"{file}: this manifest cannot be read ({error.strerror})") from None


@lru_cache(maxsize=256)
def opened(source: Source) -> FileIO:
    """Open a manifest, once per process; HarkError when it is not the one that was loaded."""
    if source_of(source.path) != source:
        raise HarkError(f"{source.path}: changed while it was in use; start again")
    return FileIO(source.path)
