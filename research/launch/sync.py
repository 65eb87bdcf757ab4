"""Bring W&B's server up to what is only on the disk."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib import error, request

import yaml
from rich.console import Console

from research import runs
from research.errors import HarkError
from research.launch.checks.environment import logged_in, wandb_server
from research.launch.sweep import board
from research.launch.sweep.named import named, sweep_of
from research.training.follower import catch_up, waiting
from research.training.sent import OFFLINE, ONLINE, begun, files, mark, records, synced

PATIENCE = 10  # s for the server's first answer


@dataclass(frozen=True)
class Local:
    """What W&B's server does not have of a folder."""

    path: Path
    steps: int  # that were logged and W&B was not given yet
    starts: list[Path]  # W&B's files that are not uploaded
    probes: bool = False  # were made since

    @property
    def there(self) -> bool:
        return bool(self.steps or self.starts or self.probes)


def sync(names: Sequence[str], root: Path, *, dry_run: bool) -> int:
    """Upload runs and sweeps, after a failure the next one. HarkError without network or login."""
    console = Console(highlight=False, soft_wrap=True)
    paths, sweeps = chosen(names, root)
    found = [local for path in paths if (local := look(path)).there]
    if not found and not sweeps:
        console.print("W&B has everything")
        return 0
    if dry_run:
        for local in found:
            console.print(f"{local.path}: {said_of(local)}")
        for sweep in sweeps:
            console.print(f"{sweep}: a table of its cells")
        return 0
    reachable("type `hark sync` on a machine with a network that sees the run folders")
    failed = 0
    for path in [local.path for local in found] + sweeps:
        try:
            console.print(f"{path}: {upload_sweep(path) if path in sweeps else upload(path)}")
        except HarkError as problem:
            failed += 1
            print(f"hark: {problem}", file=sys.stderr)
    return int(failed > 0)


def chosen(names: Sequence[str], root: Path) -> tuple[list[Path], list[Path]]:
    """Give run folders and sweep folders; of classifications the runs inside them."""
    if names:
        targets = named(names, root)
        tops = dict.fromkeys(path for target in targets for path in target.runs)
    else:
        if not root.is_dir():
            raise HarkError(f"{root}: no such folder; type --folder, where run folders are")
        targets = [sweep_of(file.parent) for file in sorted(root.glob("sweeps/*/sweep.json"))]
        tops = dict.fromkeys(sorted(file.parent for file in root.glob("*/config.yaml")))
    paths = [path for top in tops for path in (top, *sorted(top.glob("*-*"))) if follows(path)]
    sweeps = [t.sweep for t in targets if t.sweep and any(path in t.runs for path in paths)]
    return paths, sweeps


def follows(path: Path) -> bool:
    """Whether a folder is that of a run which W&B is to have."""
    if not ((path / "metrics.jsonl").exists() and (path / "config.yaml").exists()):
        return False
    return log_of(path)["wandb"] != "disabled"


def log_of(path: Path) -> dict[str, Any]:
    log: dict[str, Any] = yaml.load((path / "config.yaml").read_text(), Loader=yaml.CSafeLoader)["log"]
    return log


def look(path: Path) -> Local:
    starts = [file for kind in (OFFLINE, ONLINE) for file in files(path, kind=kind) if not synced(file)]
    steps, probes = waiting(path)
    return Local(path, steps, starts, probes)


def said_of(local: Local) -> str:
    """`1 start, 8 steps behind, new probes`."""
    starts, steps = len(local.starts), local.steps
    parts = [f"{starts} {'start' if starts == 1 else 'starts'}"] if starts else []
    parts += [f"{steps} {'step' if steps == 1 else 'steps'} behind"] if steps else []
    return ", ".join(parts + ["new probes"] * local.probes)


def upload(path: Path) -> str:
    """Bring one run up; what was done. HarkError when not all of it could be."""
    if runs.holder(path / "wandb") is not None:
        return "is being trained, and uploaded when it has ended"
    bring(path)
    pending = [file for file in files(path, kind=OFFLINE) if not synced(file)]
    try:
        return upload_files(pending, path)
    except HarkError:
        if not any(map(begun, pending)):
            raise
        bring(path)  # the server says what it has
        return "is up"


def bring(path: Path) -> None:
    said: list[str] = []
    catch_up(path, said.append)
    if said:
        raise HarkError(said[0])


def blank(file: Path) -> bool:
    """Whether a kill came before W&B wrote down anything: there is nothing to upload, and W&B would stop there."""
    return all(record["type"] != "run" for record in records(file))


def upload_sweep(sweep: Path) -> str:
    """Write the table of a sweep, and bring it up."""
    cells = sweep_of(sweep).runs
    logs = [log_of(path) for path in cells if follows(path)]
    try:
        board.write_table(sweep, cells, logs[0]["project"])
    except HarkError:
        raise
    except Exception as problem:
        raise HarkError(
            f"{sweep}: W&B could not write its table ({str(problem).splitlines()[0]})"
        ) from problem
    return upload_files([file for file in files(sweep, kind=OFFLINE) if not synced(file)], sweep)


def upload_files(pending: Sequence[Path], path: Path) -> str:
    """Let W&B append what was written without a network to one run of its server, the oldest first."""
    for file in filter(blank, pending):
        mark(file)
    pending = [file for file in pending if not synced(file)]
    if not pending:
        return "is up"
    command = [sys.executable, "-m", "wandb", "sync", *(str(file.parent.absolute()) for file in pending)]
    with runs.only_one(path / "wandb"):
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd=path
        )  # W&B leaves its own logs in its working folder
    left = [file for file in pending if not synced(file)]  # W&B marks what its server took
    if left:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise HarkError(f"{left[0]}: was not uploaded: {said[-1] if said else done.returncode}")
    return f"uploaded {len(pending)} {'start' if len(pending) == 1 else 'starts'}"


def reachable(otherwise: str) -> None:
    """HarkError when there is no way to W&B's server, or nobody to log in as; `otherwise`: what to do then."""
    server = wandb_server()
    if not logged_in():
        raise HarkError(f"{server}: nobody is logged in; type `wandb login`, or set WANDB_API_KEY")
    try:
        request.urlopen(server, timeout=PATIENCE).close()  # noqa: S310  what the user set
    except error.HTTPError:
        pass  # an answer
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "reason", problem)
        raise HarkError(f"{server}: does not answer ({reason}); {otherwise}") from None
