"""What a user's word names: a sweep, a run, or the beginning of one's name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from research.errors import HarkError, nearest
from research.launch.sweep.folder import Folder

MANY = 8  # candidates that an error lists


@dataclass(frozen=True)
class Named:
    """Runs to show, or to act on."""

    title: str
    runs: dict[Path, dict[str, str]]  # folder, there or not -> what tells it from the others
    sweep: Path | None = None  # folder, when all of it is meant


def every(root: Path) -> list[Named]:
    """All sweeps in `root`, the folder of run folders; the newest first. HarkError when there is none."""
    files = sorted(root.glob("sweeps/*/sweep.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    if not files:
        raise HarkError(f"{root / 'sweeps'}: no sweep is here; type --folder, or the name of a run")
    return [sweep_of(file.parent) for file in files]


def named(words: Sequence[str], root: Path) -> list[Named]:
    """Give what every word names, or all sweeps; HarkError where a word names nothing, or could name several things."""
    return [one(word, root) for word in words] or every(root)


def runs_of(words: Sequence[str], root: Path) -> dict[Path, dict[str, str]]:
    """Give all runs that words name, each once."""
    return {run: differs for each in named(words, root) for run, differs in each.runs.items()}


def root_of(runs: Iterable[Path], root: Path) -> Path:
    """Give the folder that runs are in, which paths may have named; HarkError when they are in several."""
    roots = {run.parent.absolute() for run in runs} or {root}
    if len(roots) > 1:
        raise HarkError(f"{' and '.join(map(str, sorted(roots)))}: name runs of one folder at a time")
    return roots.pop()


def one(word: str, root: Path) -> Named:
    """Find a sweep by its name or path, or a run by its path, name or signature; the beginning is enough."""
    path = Path(word)
    if is_run(path):
        return run_of(path)
    if path.parent != Path():  # runs/nest_codes-ab12: the folder was typed, too
        sweeps = path.parent.name == "sweeps"
        root, word = path.parents[1] if sweeps else path.parent, path.name
    there = {folder.parent.name: folder.parent for folder in root.glob("sweeps/*/sweep.json")}
    if word in there:
        return sweep_of(there[word])
    runs = {folder.name: folder for folder in root.glob("*-*") if is_run(folder)}
    fits = [name for name in runs if begins(word, name)]
    fitting = [name for name in there if name.startswith(word)]
    if len(fits) + len(fitting) == 1:
        return run_of(runs[fits[0]]) if fits else sweep_of(there[fitting[0]])
    if not fits and not fitting:
        raise HarkError(f"{word}: names no sweep and no run in {root}{nearest(word, [*there, *runs])}")
    found = sorted(fitting) + sorted(fits)
    more = f" and {len(found) - MANY} more" if len(found) > MANY else ""
    raise HarkError(f"{word}: could be any of {', '.join(found[:MANY])}{more}; type more of it")


def begins(word: str, run: str) -> bool:
    """Whether a run's name, or its signature, begins so."""
    return run.startswith(word) or run.rpartition("-")[2].startswith(word)


def is_run(path: Path) -> bool:
    return (path / "config.yaml").exists() or (path / "jobs.jsonl").exists()


def run_of(run: Path) -> Named:
    """Name a run, with what tells it from the others of its sweep when it has one."""
    folders = [Folder(file.parent) for file in sorted(run.parent.glob("sweeps/*/sweep.json"))]
    cells = [cell for folder in folders if (cell := folder.read()["cells"].get(run.name))]
    return Named(run.name, {run: cells[0]["differs"] if cells else {}})


def sweep_of(sweep: Path) -> Named:
    cells = Folder(sweep).read()["cells"]
    runs = {sweep.parents[1] / name: cell["differs"] for name, cell in cells.items()}
    return Named(sweep.name, runs, sweep)
