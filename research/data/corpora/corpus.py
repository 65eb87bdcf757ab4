"""What every corpus has in common: work in parts that survive an interruption, one manifest, licences, a summary.

<out>/<part>/*.flac       audio of a part (a package, a shard)
<out>/.parts/<part>.json  rows of a finished part: it is not done again
<out>/manifest.jsonl      all utterances; train.jsonl, valid.jsonl, ... are chosen from them
<out>/LICENSES.md         where the audio comes from and under which licence
<out>/summary.json        written last: a folder that has it is whole
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.errors import HarkError
from research.files import write

Row = dict[str, Any]  # one line of a manifest
Splits = dict[str, list[Row]]  # file name without its ending -> rows

LAYOUT = 1  # raise it when rows or audio change: folders of an older layout are made again


@dataclass
class Part:
    """What a finished part gave."""

    rows: list[Row]  # with `digest`, which names the source's bytes and is not written to manifests
    dropped: Counter[str] = field(default_factory=Counter)  # reason -> recordings
    licence: str = ""


def write_manifest(path: Path, rows: Sequence[Row]) -> None:
    write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@contextmanager
def making(out: Path) -> Iterator[None]:
    """Make the folder, and turn what the disk refuses (full, read-only) into one line; finished parts stay."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise HarkError(
            f"{error.filename or out}: {error.strerror}; the same command goes on from here"
        ) from error


def is_whole(out: Path, inputs: Mapping[str, Any]) -> bool:
    """Whether `out` already holds what these inputs give."""
    summary = out / "summary.json"
    return summary.exists() and json.loads(summary.read_text()).get("inputs") == {"layout": LAYOUT, **inputs}


def remember(out: Path, name: str, key: str, make: Callable[[], Part]) -> Part:
    """Give a part: as it was finished before under the same key, else made now."""
    note = out / ".parts" / f"{name}.json"
    key = f"{LAYOUT} {key}"
    if note.exists():
        old = json.loads(note.read_text())
        if old["key"] == key:
            return Part(old["rows"], Counter(old["dropped"]), old["licence"])
    part = make()
    note.parent.mkdir(exist_ok=True)
    write(note, json.dumps({"key": key, **vars(part)}, ensure_ascii=False))
    return part


def merge(parts: Sequence[Part]) -> tuple[list[Row], Counter[str]]:
    """Join the rows of all parts, each recording once; also count what was dropped, by reason."""
    seen: set[str] = set()
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    for part in parts:
        fresh = [row for row in part.rows if row["digest"] not in seen]
        dropped.update(part.dropped)
        dropped["duplicate"] += len(part.rows) - len(fresh)
        seen.update(row["digest"] for row in fresh)
        rows += [{key: value for key, value in row.items() if key != "digest"} for row in fresh]
    return rows, dropped


def totals(rows: Sequence[Row]) -> Row:
    return {"utterances": len(rows), "minutes": round(sum(row["duration"] for row in rows) / 60, 2)}


def totals_by(rows: Sequence[Row], key: str) -> dict[str, Row]:
    """Totals for every value of a key that is known, in alphabetical order."""
    values = sorted({row[key] for row in rows} - {""})
    return {value: totals([row for row in rows if row[key] == value]) for value in values}


def finish(
    out: Path,
    *,
    inputs: Mapping[str, Any],
    parts: Sequence[Part],
    licences: str,
    split: Callable[[list[Row]], Splits] = lambda _: {},
    notes: Sequence[str] = (),
) -> None:
    """Write manifest, splits, licences and, last, the summary."""
    (out / "summary.json").unlink(missing_ok=True)
    rows, dropped = merge(parts)
    splits = split(rows)
    write_manifest(out / "manifest.jsonl", rows)
    for name, some in splits.items():
        write_manifest(out / f"{name}.jsonl", some)
    write(out / "LICENSES.md", licences)
    summary = {
        **totals(rows),
        "dropped": dropped,
        "splits": {name: totals(some) for name, some in splits.items()},
        "notes": list(notes),
        **{key: by for key in ("source", "lang", "kind", "speaker") if (by := totals_by(rows, key))},
        "inputs": {"layout": LAYOUT, **inputs},
    }
    write(out / "summary.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
