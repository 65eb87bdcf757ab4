"""The indexes of all files of a mixture: from the cache, or made by all cores."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from research.data.pieces import SIZE, all_cores, progress
from research.data.streams import lines, tar
from research.data.streams.index import Columns, Counts, Index, Place, load, make
from research.data.streams.layouts import Files

Scan = Callable[[Path], tuple[Columns, Counts]]
Indexes = dict[Place, Index]


def gather(files: Iterable[Files]) -> Indexes:
    """Index files and their tars. HarkError: one cannot be read, or has a line that is wrong."""
    scans = {place: scan for one in files for place, scan in scans_of(one)}
    found = {place: load(place) for place in scans}
    todo = [place for place, index in found.items() if index is None]
    indexes = {place: index for place, index in found.items() if index is not None}
    alone = [place for place in todo if large(place)]
    indexes |= {place: make(place, scans[place]) for place in alone}
    rest = [place for place in todo if place not in alone]
    return indexes | dict(zip(rest, make_all(rest, [scans[place] for place in rest]), strict=True))


def scans_of(one: Files) -> Iterable[tuple[Place, Scan]]:
    place = lines.place(one.lines, one.kind)
    yield place, partial(lines.scan_by_all if large(place) else lines.scan, kind=one.kind)
    for path in one.tars.values():
        yield tar.place(path), tar.scan


def large(place: Place) -> bool:
    """Whether a file is worth all cores."""
    return place.kind != tar.KIND and place.path.suffix != ".gz" and place.path.stat().st_size > SIZE


def make_all(places: list[Place], scans: list[Scan]) -> Iterable[Index]:
    """Index many files, each by one process."""
    if not places:
        return
    with progress() as bar:
        if len(places) == 1:
            bar.add_task(f"indexing {places[0].path.name}", total=None)
            yield make(places[0], scans[0])
            return
        with all_cores(len(places)) as pool:
            made = pool.map(make, places, scans)
            yield from bar.track(made, total=len(places), description="indexing shards")
