"""What lies at a path: which files make shards together, by their names and their first line alone."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from research.data.entry import as_object
from research.data.streams.cuts import CUTS, SHAR, TYPES
from research.data.streams.index import FAULTS, unreadable
from research.data.streams.lines import Kind, opened
from research.data.streams.nemo import NEMO, NEMO_TARRED
from research.data.streams.patterns import expand
from research.errors import HarkError

KNOWN = (
    "a manifest (JSONL with audio_filepath), a CutSet (JSONL of lhotse's cuts), a Shar (folder with cuts.*.jsonl.gz), "
    "a folder of tars (audio_*.tar, with sharded_manifests/ or tarred_audio_manifest.json), a list of these (.yaml)"
)
ONE_FOR_ALL = "tarred_audio_manifest.json"


class Files(NamedTuple):
    """Files that are read together."""

    lines: Path
    kind: Kind
    tars: dict[
        int, Path
    ]  # none: audio lies where the lines say; one: of all lines; several: by the lines' shard_id


def of_paths(texts: Sequence[str], folder: str) -> list[Files]:
    """Files at some paths or patterns. HarkError: something is missing, empty, or not of a known kind."""
    found: list[Files] = []
    for text in texts:
        paths = absolute(text, folder)
        if paths[0].is_dir():
            found += [files for path in paths for files in of_folder(path)]
        else:
            kind = kind_of(paths[0])
            found += [Files(path, kind, {}) for path in paths]
    return found


def of_folder(folder: Path) -> list[Files]:
    """Files of a Shar, or of a folder of tars in NeMo's layout."""
    try:
        names = [path.name for path in sorted(folder.iterdir(), key=number)]
    except OSError as error:
        raise unreadable(folder, error) from None
    cuts = [str(folder / name) for name in names if re.fullmatch(r"cuts(\.\d+)?\.jsonl(\.gz)?", name)]
    if cuts:
        recordings = [str(folder / name) for name in names if name.startswith("recording.")]
        return of_fields(cuts, recordings, str(folder))
    tars = [str(folder / name) for name in names if re.fullmatch(r"audio.*\d+\.tar", name)]
    if tars and ONE_FOR_ALL in names:
        return of_tars([str(folder / ONE_FOR_ALL)], tars, "")
    if tars and "sharded_manifests" in names:
        manifests = map(str, sorted((folder / "sharded_manifests").glob("manifest*.json*"), key=number))
        return of_tars(list(manifests), tars, "")
    raise HarkError(f"{folder}: holds nothing that is known; a source is {KNOWN}")


def of_fields(cuts: Sequence[str], recordings: Sequence[str], folder: str) -> list[Files]:
    """Files of a Shar: cuts and recordings, paired by their numbers. Without recordings the cuts say where these are."""
    lines = all_of(cuts, folder)
    if not recordings:
        return [Files(path, CUTS, {}) for path in lines]
    return [Files(path, SHAR, {0: tar}) for path, tar in paired(lines, all_of(recordings, folder))]


def of_tars(manifests: Sequence[str], tars: Sequence[str], folder: str) -> list[Files]:
    """Files of tars with one manifest for all, or one for each, paired by their numbers."""
    lines, audio = all_of(manifests, folder), all_of(tars, folder)
    if len(lines) > 1:
        return [Files(path, NEMO_TARRED, {0: tar}) for path, tar in paired(lines, audio)]
    by_number: dict[int, Path] = {}
    for path in audio:
        other = by_number.setdefault(number(path), path)
        if other is not path:
            raise HarkError(f"{path}: has the number of {other}; one manifest cannot tell them apart")
    return [Files(lines[0], NEMO_TARRED, dict(sorted(by_number.items())))]


def paired(lines: Sequence[Path], tars: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Files of lines, each with the tar of its number. HarkError names the one that has no partner."""
    one, other = keyed(lines), keyed(tars)
    for key in sorted(one.keys() ^ other.keys()):
        path, partners = (one[key], tars) if key in one else (other[key], lines)
        raise HarkError(f"{path}: its partner, number {key[0]}, is missing; there are {short(partners)}")
    return [(one[key], other[key]) for key in one]


def keyed(paths: Sequence[Path]) -> dict[tuple[int, int], Path]:
    """Paths by their number, and by their place among those that share it: lists may span folders."""
    seen: Counter[int] = Counter()
    found: dict[tuple[int, int], Path] = {}
    for path in paths:
        found[number(path), seen[number(path)]] = path
        seen[number(path)] += 1
    return found


def number(path: Path) -> int:
    """Give the last number in a name: that of a shard."""
    digits = re.findall(r"\d+", path.name)
    return int(digits[-1]) if digits else 0


def all_of(texts: Sequence[str], folder: str) -> list[Path]:
    """All files of some patterns. HarkError: there is none, or one is missing."""
    paths = [path for text in texts for path in absolute(text, folder)]
    if not paths:
        raise HarkError(f"{list(texts)}: this list of shards is empty")
    return paths


def short(paths: Iterable[Path]) -> str:
    """Name the first few."""
    names = [str(path) for path in paths]
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def absolute(text: str, folder: str) -> list[Path]:
    """All files of a pattern. HarkError names the first that is missing."""
    paths = [Path(os.path.abspath(path)) for path in expand(text, folder)]  # noqa: PTH100  keeps symbolic links
    for path in paths:
        try:
            path.stat()
        except OSError as error:
            of = "" if len(paths) == 1 else f"; it is one of {len(paths)} of {text}"
            raise HarkError(f"{path}: cannot be read ({error.strerror}){of}") from None
    if not paths:
        raise HarkError(f"{text}: stands for no file")
    return paths


def kind_of(path: Path) -> Kind:
    """What a file's first line shows."""
    if not re.search(r"\.jsonl?(\.gz)?$", path.name):
        raise HarkError(f"{path}: is nothing that is known; a source is {KNOWN}")
    try:
        with opened(path) as file:
            line = next((line for line in file if not line.isspace()), b"")
    except FAULTS as error:
        raise unreadable(path, error) from None
    if not line:
        raise HarkError(f"{path}: is empty")
    try:
        found = as_object(line)
    except ValueError as error:
        raise HarkError(f"{path}:1: {error}") from None
    if "audio_filepath" in found or "audio_filename" in found:
        return NEMO
    if found.get("type") in TYPES or {"id", "start", "duration", "recording"} <= found.keys():
        return CUTS
    raise HarkError(f"{path}:1: is no utterance; a source is {KNOWN}")
