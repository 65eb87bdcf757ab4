"""Packages -> parts: read a .deb, render its recordings on two cores, note the licence."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from research.data.corpora import debs
from research.data.corpora.clips import Clip, render
from research.data.corpora.corpus import Part, remember
from research.data.corpora.pins import PINS

WORKERS = 2  # threads: decoding, resampling and encoding all leave Python

Files = dict[str, bytes]  # path inside the package -> content


@dataclass(frozen=True)
class Package:
    """A Debian package that holds recordings."""

    name: str
    wanted: str  # regular expression of the paths it reads
    clips: Callable[[str, Files], Iterator[Clip]]  # package name, files -> recordings
    beside: str = ""  # another package, whose wanted paths are read too
    credit: str = ""  # what its licence asks to show to the user

    @property
    def debs(self) -> list[str]:
        return [self.name, *filter(None, [self.beside])]


def inputs(packages: Sequence[Package]) -> dict[str, str]:
    """Package -> SHA-256, of all that is read."""
    return {name: PINS[name].sha256 for package in packages for name in package.debs}


def make_parts(out: Path, packages: Sequence[Package], paths: dict[str, Path], longest: float) -> list[Part]:
    """Make the part of every package, or find it finished; recordings are cut at `longest` seconds."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        return [_part(out, package, paths, longest, progress) for package in packages]


def _part(out: Path, package: Package, paths: dict[str, Path], longest: float, progress: Progress) -> Part:
    def make() -> Part:
        licence, clips, repeats = read(package, paths)
        part = Part([], Counter(duplicate=repeats), licence)
        (out / package.name).mkdir(exist_ok=True)
        progress.update(task, total=len(clips))
        with ThreadPoolExecutor(WORKERS) as pool:
            for pieces in pool.map(partial(render, out=out, source=package.name, longest=longest), clips):
                part.rows += [piece for piece in pieces if isinstance(piece, dict)]
                part.dropped.update(piece for piece in pieces if isinstance(piece, str))
                progress.advance(task)
        return part

    task = progress.add_task(package.name, total=None)
    part = remember(out, package.name, " ".join([*inputs([package]).values(), str(longest)]), make)
    progress.update(task, total=len(part.rows), completed=len(part.rows))
    return part


def read(package: Package, paths: dict[str, Path]) -> tuple[str, list[Clip], int]:
    """Unpack what is needed: the copyright file, the distinct recordings by key, and how many repeat one."""
    copyright_file = f"usr/share/doc/{package.name}/copyright"
    wanted = re.compile(f"{package.wanted}|^{re.escape(copyright_file)}$")
    files = {name: data for deb in package.debs for name, data in debs.members(paths[deb], wanted)}
    licence = files.pop(copyright_file).decode("utf8", "replace")
    clips = sorted(package.clips(package.name, files), key=lambda clip: clip.key)
    distinct: dict[str, Clip] = {}
    for clip in clips:
        distinct.setdefault(clip.digest, clip)
    return licence, list(distinct.values()), len(clips) - len(distinct)


def licences(packages: Sequence[Package], parts: Sequence[Part]) -> str:
    """Write what LICENSES.md says: credits first, then each package's own copyright file."""
    thanks = "".join(f"- {line}\n" for line in credits_of(packages))
    text = (
        "# Licences\n\nThe recordings below were converted to 16 kHz mono FLAC and are otherwise unchanged.\n"
    )
    text += f"\n## Credits\n\n{thanks}" if thanks else ""
    for package, part in zip(packages, parts, strict=True):
        page = f"https://packages.debian.org/bookworm/{package.name}"
        text += f"\n## {package.name} {PINS[package.name].version}\n\nFrom <{page}>; its copyright file:\n\n"
        text += f"````text\n{part.licence.strip()}\n````\n"
    return text


def credits_of(packages: Sequence[Package]) -> list[str]:
    """What licences ask to show to the user."""
    return [f"{package.name}: {package.credit}" for package in packages if package.credit]
