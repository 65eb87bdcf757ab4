"""Files and their indexes -> shards: every line with its audio, and no id twice."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from research.data.streams import lines, tar
from research.data.streams.cuts import SHAR
from research.data.streams.gather import Indexes
from research.data.streams.index import Columns, Index
from research.data.streams.layouts import Files, short
from research.data.streams.shards import Audio, Ints, Lines
from research.errors import HarkError

log = logging.getLogger(__name__)

Keys = NDArray[np.uint64]


@dataclass
class Matching:
    """Puts the shards of one source together."""

    indexes: Indexes
    skip_missing: bool  # leave out lines whose tar has no such member
    shards: list[Lines] = field(default_factory=list)
    keys: list[Keys] = field(default_factory=list)  # hashes of the ids, for each shard
    out: Counter[str] = field(default_factory=Counter)  # reason -> utterances that are left out

    def add(self, one: Files) -> None:
        """Add the shards of some files. HarkError: a line has no audio where it should be."""
        index = self.indexes[lines.place(one.lines, one.kind)]
        self.out.update(index.counts)
        if len(index.rows) == 0 and not index.counts:
            raise HarkError(f"{one.lines}: is empty")
        if not one.tars:
            self.keep(one, index.rows, None, {one.lines: index.stamp})
        for path, part in split(one, index.rows):
            members = self.indexes[tar.place(path)]
            places = self.places(one, path, part, members)  # (U,)
            rows, found = part[places >= 0], members.rows[places[places >= 0]]
            audio = Audio(str(path), found["offset"].copy(), found["size"].copy())
            self.keep(one, rows, audio, {one.lines: index.stamp, path: members.stamp})

    def keep(self, one: Files, rows: Columns, audio: Audio | None, stamps: dict[Path, list[int]]) -> None:
        if len(rows) == 0:
            return
        name = audio.tar if audio else str(one.lines)
        columns = rows["duration"].copy(), rows["start"].copy()
        self.shards.append(Lines(name, one.lines, one.kind.format, *columns, audio, stamps))
        self.keys.append(rows["key"].copy())

    def places(self, one: Files, path: Path, rows: Columns, members: Index) -> Ints:
        """Which member of a tar every line means, (U,); -1 where it is left out."""
        found = members.rows
        shar = one.kind is SHAR
        names = found["stem"] if shar else found["name"]  # (members,)
        places = find(rows["key"] if shar else rows["member"], names)  # (U,)
        if not shar:
            places = np.where(places < 0, find(rows["file"], names), places)
        self.missing(one, path, rows[places < 0], damaged=tar.DAMAGED in members.counts)
        if shar:
            places = self.without_audio(places, found)
        names = names[names != 0]
        if twice := len(names) - len(np.unique(names)):
            log.warning("%s: %d members have the name of a later one, which is taken", path, twice)
            self.out["replaced by a later member of its tar"] += twice
        return places

    def without_audio(self, places: Ints, found: Columns) -> Ints:
        empty = (places >= 0) & (found["size"][places] == 0)  # (U,)
        self.out["without a recording"] += int(empty.sum())
        return np.where(empty, -1, places)

    def missing(self, one: Files, path: Path, rows: Columns, *, damaged: bool) -> None:
        """Count lines (U,) whose audio is not in their tar, or refuse them."""
        if len(rows) == 0:
            return
        if damaged:
            log.warning("%s: is damaged or cut off; %d utterances are left out", path, len(rows))
            self.out["cut off in its tar"] += len(rows)
        elif self.skip_missing:
            self.out["not in its tar"] += len(rows)
        else:
            more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
            line = lines.where(one.lines, int(rows["start"][0]))
            raise HarkError(
                f"{line}: its audio is not in {path}{more}; skip_missing: true leaves such lines out"
            )

    def check_ids(self) -> None:
        """HarkError when two utterances have the same id."""
        keys = np.concatenate(self.keys) if self.keys else np.zeros(0, np.uint64)  # (U,)
        ordered = np.sort(keys)
        for key in np.unique(ordered[1:][ordered[1:] == ordered[:-1]]):  # equal hashes: mostly equal ids
            names: dict[str, str] = {}
            for place in np.flatnonzero(keys == key):
                shard, row = self.at(int(place))
                name, where = shard.id(row), shard.where(row)
                if name in names:
                    raise HarkError(
                        f"{where}: id '{name}' is taken by {names[name]}; "
                        'leave one line out or give them different "id"s'
                    )
                names[name] = where

    def at(self, place: int) -> tuple[Lines, int]:
        """Shard and row of an utterance of the source."""
        for shard in self.shards:
            if place < len(shard.durations):
                return shard, place
            place -= len(shard.durations)
        raise IndexError(place)


def split(one: Files, rows: Columns) -> Iterator[tuple[Path, Columns]]:
    """Lines by the tar that holds their audio. HarkError: a line does not say which, or names one that is not there."""
    if len(one.tars) < 2:
        yield from ((path, rows) for path in one.tars.values())
        return
    for i in np.flatnonzero(~np.isin(rows["shard"], list(one.tars)))[:1]:
        shard = rows["shard"][i]
        fault = (
            f"shard_id {shard} is none of"
            if shard >= 0
            else "has no shard_id, which would tell its tar among"
        )
        raise HarkError(
            f"{lines.where(one.lines, int(rows['start'][i]))}: {fault} {short(one.tars.values())}"
        )
    rows = rows[np.argsort(rows["shard"], kind="stable")]
    edges = np.searchsorted(rows["shard"], list(one.tars))
    yield from zip(one.tars.values(), np.split(rows, edges[1:]), strict=True)


def find(keys: Keys, among: Keys) -> Ints:
    """Place of every key (U,) among others, the last that is equal; -1 where none is."""
    if len(among) == 0:
        return np.full(len(keys), -1)
    order = np.argsort(among, kind="stable")
    places = order[np.searchsorted(among[order], keys, side="right") - 1]  # (U,)
    return np.where(among[places] == keys, places, -1)
