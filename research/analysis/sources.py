"""What a word names: a sweep, a folder of runs, one run, a packed file, or a project of W&B."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from research.analysis.project import download
from research.analysis.unpack import ENDING, unpacked
from research.errors import HarkError, nearest

WANDB = "wandb:"
MARKS = ("config.yaml", "jobs.jsonl", "metrics.jsonl")  # any of them makes a folder that of a run


@dataclass(frozen=True)
class Source:
    """Runs to read."""

    name: str
    root: Path  # folder that the runs are in
    runs: list[Path]  # there or not
    sweep: Path | None = None  # its folder, when they are the cells of one
    cells: dict[str, Any] = field(default_factory=dict)  # of a sweep: run's name -> {"differs", "overrides"}


def find(what: str | Path, root: Path) -> Source:
    """HarkError when it names nothing, or no run is there."""
    word = str(what)
    path = Path(what)
    if (root / "sweeps" / word / "sweep.json").exists():
        return of_sweep(root / "sweeps" / word)
    if (path / "sweep.json").exists():
        return of_sweep(path)
    if is_run(path):
        return Source(path.name, path.parent, [path])
    if path.is_dir():
        return of_folder(path)
    if word.startswith(WANDB):
        return replace(of_folder(download(word.removeprefix(WANDB))), name=word)
    if path.suffix == ENDING and path.exists():
        return of_packed(path)
    known = [file.parent.name for file in root.glob("sweeps/*/sweep.json")]
    raise HarkError(
        f"{word}: is no sweep of {root}{nearest(word, known)}, no folder of runs and no packed file; "
        f"type one of these, or wandb:ENTITY/PROJECT"
    )


def of_sweep(folder: Path) -> Source:
    """All cells of a sweep, whether a run is there or not."""
    try:
        cells = json.loads((folder / "sweep.json").read_text())["cells"]
    except (ValueError, KeyError, TypeError):
        raise HarkError(f"{folder / 'sweep.json'}: is damaged; type the folder of its runs instead") from None
    root = folder.absolute().parents[1]
    return Source(folder.name, root, [root / name for name in cells], folder, cells)


def of_folder(folder: Path) -> Source:
    found = sorted(path for path in folder.iterdir() if is_run(path))
    if not found:
        raise HarkError(f"{folder}: no run is here; train one, or name another folder or a sweep")
    return Source(folder.name, folder, found)


def is_run(path: Path) -> bool:
    return any((path / mark).exists() for mark in MARKS)


def of_packed(file: Path) -> Source:
    folder = unpacked(file)
    sweeps = list(folder.glob("sweeps/*/sweep.json"))
    return of_sweep(sweeps[0].parent) if sweeps else replace(of_folder(folder), name=file.stem)
