"""The code of a sweep, copied once: what is edited afterwards does not change jobs that wait.

<run.folder>/sweeps/code/<commit>-<hash of all files>/
  research/ plugins/ sweeps/   as they are in the checkout, or where hark is installed
  ...                          plugins of the user's own that are not installed
  code.json                    commit, and the diff of the working tree against it
"""

import hashlib
import json
import os
import shutil
import sys
import sysconfig
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from research import __version__, registry, runs
from research.errors import HarkError

PARTS = ("research", "plugins", "sweeps")
SKIPPED = ("__pycache__", ".git", ".ipynb_checkpoints")
NO_CODE = (".pyc", ".ipynb")
LARGEST = 100_000_000  # bytes of one part


def snapshot(folder: Path) -> Path:
    """Copy the code of this process into `folder`, unless the same is there; give the copy, for `environment`.

    The plugins must be loaded. HarkError when a part holds so much that it cannot be code alone.
    """
    there = [(name, runs.ROOT / name) for name in PARTS] + own_plugins()
    files = {f"{name}{inner}": data for name, path in there for inner, data in read(path)}
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    code = runs.code_version()
    path = folder.absolute() / f"{code['commit'][:10] or __version__}-{digest.hexdigest()[:10]}"
    if not path.exists():
        copy(files | {"code.json": json.dumps(code, indent=1).encode()}, path)
    return path


def environment(path: Path) -> dict[str, str]:
    """Give what a process needs to import hark from a snapshot, wherever it starts and whatever is installed."""
    others = [
        str(Path(part).absolute()) for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part
    ]
    found = {"PYTHONPATH": os.pathsep.join([str(path), *others]), "PYTHONSAFEPATH": "1"}
    return found | ({"HARK_PLUGINS": ",".join(named)} if (named := registry.named()) else {})


def copy(files: dict[str, bytes], path: Path) -> None:
    """Write files into a new folder, whole or not at all. Python may write its own beside them; they are read-only."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    for name, data in files.items():
        file = part / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o444)
    try:
        part.rename(path)
    except OSError:
        shutil.rmtree(part)
        if not path.exists():  # else another process was faster, with the same files
            raise


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    """Give the files of a module or folder: ending of the name, content."""
    if path.is_file():
        yield path.suffix, path.read_bytes()
        return
    files = [path / name for name in listing(path)] if path.exists() else []
    size = sum(file.stat().st_size for file in files)
    if size > LARGEST:
        raise HarkError(
            f"{path}: holds {size / 1e6:.0f} MB, so not code alone; move the rest to another folder"
        )
    for file in files:
        yield f"/{file.relative_to(path)}", file.read_bytes()


def listing(folder: Path) -> list[str]:
    """Name the files of a folder as git sees them, tracked or not; all of them where it knows of none."""
    known = runs.git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    found = {name for name in known if (folder / name).is_file()}
    if not found:
        found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return sorted(name for name in found if not skipped(Path(name)))


def skipped(name: Path) -> bool:
    return name.suffix in NO_CODE or any(part in SKIPPED for part in name.parts)


def own_plugins() -> list[tuple[str, Path]]:
    """Find modules that are loaded as plugins but not installed, and what lies beside them and is in use."""
    named = {name.partition(".")[0] for name in registry.outside()} - set(PARTS)
    found = [(name, path) for name in sorted(named) for path in places(name)]
    beside = {path.parent for _, path in found}
    loaded = {name for name in sys.modules if "." not in name and name != "__main__"} - named - set(PARTS)
    return found + [(name, path) for name in sorted(loaded) for path in places(name) if path.parent in beside]


def places(name: str) -> list[Path]:
    """Where a module lies, as a file or folder; nothing for what is installed, built in or not there."""
    try:
        spec = find_spec(name)
    except ValueError:  # a module that was made by hand
        return []
    if spec is None:
        return []
    found = spec.submodule_search_locations or [spec.origin or ""]
    return [path for path in map(Path, found) if path.exists() and not installed(path)]


def installed(path: Path) -> bool:
    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return {"site-packages", "dist-packages"} & set(path.parts) != set() or any(
        path.is_relative_to(folder) for folder in own
    )
