"""The small results of many runs as one JSONL file, to be kept in git and read as if it were their folder.

The first line is of all: {"schema", "name", "files": {path: text}, "texts": {hash: text}}: a sweep's sweep.json, and
texts that several runs have. One line per run follows: {"run", "files": {name: text}, "same": {name: hash}}. Files are
kept as they are, damaged ones too; checkpoints and the panel of health are left out.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from research.analysis.digest import FILES
from research.analysis.sources import Source, find, is_run
from research.analysis.unpack import BYTES, ENDING, SCHEMA, unpacked
from research.errors import HarkError
from research.files import write

__all__ = ["pack", "unpacked"]


def pack(source: str | Path, out: Path, root: Path = Path("runs")) -> Path:
    """Write what `frame.runs(source, root)` reads into a file; HarkError when no run is there, or the name is wrong."""
    if out.suffix != ENDING:
        raise HarkError(f"{out}: a packed file is called *{ENDING}; type {out.with_suffix(ENDING)}")
    found = find(source, root)
    texts = {run.name: small(run) for run in found.runs if is_run(run)}
    if not texts:
        raise HarkError(f"{source}: no run is there yet; train one first")
    counts = Counter(text for files in texts.values() for text in files.values())
    shared = {sha(text): text for text, count in counts.items() if count > 1}
    lines: list[Any] = [{"schema": SCHEMA, "name": found.name, "files": sweep_of(found), "texts": shared}]
    for run, files in texts.items():
        same = {name: sha(text) for name, text in files.items() if counts[text] > 1}
        own = {name: text for name, text in files.items() if name not in same}
        lines.append({"run": run, "files": own, "same": same})
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, "".join(json.dumps(line) + "\n" for line in lines))
    return out


def small(run: Path) -> dict[str, str]:
    """Give the files of a run that are packed."""
    there = [name for name in FILES if (run / name).exists()]
    return {name: (run / name).read_bytes().decode(errors=BYTES) for name in there}


def sweep_of(source: Source) -> dict[str, str]:
    if source.sweep is None:
        return {}
    return {f"sweeps/{source.sweep.name}/sweep.json": (source.sweep / "sweep.json").read_text()}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode(errors=BYTES)).hexdigest()[:16]
