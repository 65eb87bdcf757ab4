"""Run folders: what a run is called, what it leaves behind, how it is read back.

runs/<name>-<signature>/
  config.yaml       the resolved config; `plugins` holds the name behind each plugin section
  overrides.yaml    what was typed
  code.json         commit, and the diff of the working tree against it
  metrics.jsonl     one object per logged step, schema 1: {"schema", "step", "split", "time", metric: number}
                    split: train, valid, health (measures of the panel; see research/training/health/look.py), or
                    probe (on the way, see Watch in research/config.py; jobs may add them behind later steps):
                    PROBE/{pretrained, random_init, gain}, and the seconds that it took
  alarms.jsonl      alarms: on, off, rolled back; see research/training/health/record.py
  health.pt         the panel: utterances that health is measured on, and its layers' grams at step 0
  checkpoints/      step_N/
  probes.jsonl      one object per probe result, of any number of steps
  watch/            orders and logs of jobs that probe it on its way, when no sweep has them
  jobs.jsonl        what became of its jobs, one object per event; see research/launch/sweep/ledger.py
  done.json         there once the last step is done and saved: {"steps", "time"}
  data.json         utterances, hours, what was left out and why, how many were heard so far or could not be read
  cost.json         wall seconds, device-hours, audio-hours seen
  wandb/            W&B's own files
"""

import fcntl
import hashlib
import json
import logging
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from research import registry
from research.config import Config, Training
from research.errors import HarkError
from research.files import write

SCHEMA = 1
ROOT = Path(__file__).parents[1]
FLOCK = "hhqqi"  # struct flock of Linux: type, whence, start, length, pid

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Training)


def identity(config: Any) -> Any:
    """Give the part of a config that decides what is computed: no volatile fields, plugins with their class."""
    if is_dataclass(config):
        parts = {
            f.name: identity(getattr(config, f.name))
            for f in fields(config)
            if not volatile(f, getattr(config, f.name))
        }
        parts.pop("defaults", None)
        return {"": type(config).__qualname__} | parts
    if isinstance(config, Enum):
        return config.name
    if isinstance(config, list | tuple):
        return [identity(item) for item in config]
    return config


def volatile(item: Field[Any], value: Any) -> bool:
    """Whether a field, of this value, decides nothing that is computed."""
    told = item.metadata.get("volatile", False)
    return bool(told(value) if callable(told) else told)


def signature(config: Training) -> str:
    """Ten hex digits that are equal for equal computations. The run's name is no part of it."""
    parts = identity(config)
    parts["run"].pop("name")
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:10]


def folder(config: Training) -> Path:
    return Path(config.run.folder) / f"{config.run.name}-{signature(config)}"


def find(config: Training) -> Path:
    """Give the folder of a run: that of its signature which is there, whatever its name, or else the one to make."""
    own = folder(config)
    others = sorted(own.parent.glob(f"*-{signature(config)}"))
    return own if own.exists() or not others else others[0]


def finished(path: Path) -> bool:
    """Whether all steps of a run are done, its checkpoints kept or not."""
    return (path / "done.json").exists()


def finish(path: Path, steps: int) -> None:
    """Note that all steps of a run are done and saved, once."""
    if not finished(path):
        write(path / "done.json", json.dumps({"steps": steps, "time": time.time()}))


def create(config: Training, choices: dict[str, str], overrides: list[str]) -> Path:
    """Make the folder of a run, or find it: the same signature is the same run."""
    path = folder(config)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "config.yaml").exists():
        write(path / "config.yaml", OmegaConf.to_yaml({"plugins": choices, **values_of(config)}))
        write(path / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
        write(path / "code.json", json.dumps(code_version(), indent=1))
    return path


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a run's folder; HarkError when another process on this machine is at the same run."""
    with open(path / "lock", "w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: a forked reader would hold it on
        except OSError:
            raise HarkError(
                f"{path}: another process is at this run; wait for it, or change something"
            ) from None
        yield


def holder(path: Path) -> int | None:
    """Give the id of the process that holds a run's folder, without ever being in its way; None: nobody does."""
    try:
        with open(path / "lock", "rb") as file:
            asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)


def values_of(config: Training) -> dict[str, Any]:
    """Give a config as plain values, enums by name."""
    values = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "defaults"}


def load_config(path: Path) -> Config:
    """Read the config of a pretraining's folder back into its types. The plugins must be loaded."""
    return load_root(Config, path)


def load_root(root: type[R], path: Path) -> R:
    """Read a root config from its run folder."""
    file = path / "config.yaml"
    if not file.exists():
        raise HarkError(f"{path}: no run is here (config.yaml is missing)")
    try:
        return from_values(root, OmegaConf.load(file))
    except OmegaConfBaseException as error:
        raise HarkError(f"{file}: {str(error).splitlines()[0]}") from None


def from_values(root: type[R], values: Any) -> R:
    """Make a root config of what `values_of` gave, and of `plugins`: kind -> name. OmegaConf's errors where it is wrong."""
    values = OmegaConf.create(values)
    assert isinstance(values, DictConfig)
    structure = OmegaConf.structured(root())
    for kind, name in values.pop("plugins").items():
        structure[kind] = OmegaConf.structured(registry.config_of(kind, name))
    config = OmegaConf.to_object(OmegaConf.merge(structure, values))
    assert isinstance(config, root)
    return config


def code_version() -> dict[str, str]:
    """Give the commit, and the diff of the working tree against it: of this checkout, or of what a snapshot is of."""
    copied = ROOT / "code.json"
    if copied.exists():
        return dict(json.loads(copied.read_text()))
    if not (ROOT / ".git").exists():  # installed; git would tell of any repository around it
        return {"commit": "", "diff": ""}
    return {"commit": git(ROOT, "rev-parse", "HEAD"), "diff": git(ROOT, "diff", "HEAD")}


def git(folder: Path, *words: str) -> str:
    """Ask git about a folder; nothing where it knows of none."""
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file. A last line that was cut off by a crash is left out; others that are, with a warning."""
    lines = objects(path.read_bytes()) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if line is not None:
            yield line
        elif number < len(lines):
            log.warning("%s:%d: is damaged, and left out", path, number)


def objects(data: bytes) -> list[dict[str, Any] | None]:
    """Read lines of JSON; None stands for what is no whole object."""
    found: list[dict[str, Any] | None] = []
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        found.append(value if isinstance(value, dict) else None)
    return found
