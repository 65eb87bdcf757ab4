"""Checks of what a job asks of its machines, as far as nothing has to be predicted."""

import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from research import runs
from research.launch.checks.job import Job, Said, objective_of, ok, refuse, warn
from research.launch.devices import Device, find_device

GB = 1e9


def device_of(job: Job) -> Device:
    return find_device(job.cfg.cluster.device)


def device(job: Job) -> Said:
    """Whether run.device is what cluster.device has."""
    cfg, there = job.cfg, job.get(device_of)
    try:
        wanted = torch.device("cpu" if cfg.run.device == "auto" else cfg.run.device)
    except RuntimeError:
        return refuse(f"run.device={cfg.run.device}: no such device (there are: auto, cpu, cuda, cuda:N)")
    said = f"run.device={cfg.run.device}, cluster.device={cfg.cluster.device}"
    if wanted.type == "cuda" and not there.cuda:
        return refuse(f"{said}: there will be no GPU; type run.device=auto, or another cluster=")
    if wanted.index is not None and job.world > 1:
        return refuse(f"{said}: each of {job.world} ranks takes its own device, type run.device=cuda")
    if cfg.run.device == "cpu" and there.cuda:
        return warn(f"{said}: the GPU will idle; type run.device=auto")
    return ok(f"{cfg.cluster.nodes} x {cfg.cluster.per_node} x {cfg.cluster.device}")


def workers(job: Job) -> Said:
    """Whether the readers have a CPU each."""
    cfg = job.cfg
    said = f"data.workers={cfg.data.workers}, cluster.cpus={cfg.cluster.cpus}"
    if cfg.data.workers > cfg.cluster.cpus:
        return warn(f"{said}: they will wait for each other; type data.workers={cfg.cluster.cpus}")
    return ok(said)


class Space(NamedTuple):
    """What the checkpoints of a run take."""

    place: Path  # that is there, and holds the run's folder or will
    checkpoints: int
    one: int  # bytes of each
    needed: int  # bytes beside those that are there


def space_of(job: Job) -> Space:
    place, keep = job.folder.absolute(), job.cfg.checkpoint
    while not place.exists():
        place = place.parent
    count = keep.keep_last + keep.keep_best + 1  # one is written before another goes
    one = job.get(checkpoint_bytes)
    left = 0 if runs.finished(job.folder) else count * one - size_of(job.folder / "checkpoints")
    return Space(place, count, one, max(0, left))


def disk(job: Job) -> Said:
    """Whether the checkpoints have room in run.folder."""
    space = job.get(space_of)
    said = f"{space.checkpoints} checkpoints of {space.one / GB:.2f} GB need {space.needed / GB:.2f} GB"
    return room(space.place, space.needed, said, job.cfg.run.folder)


def room(place: Path, needed: int, said: str, folder: str) -> Said:
    """Whether so many bytes fit; `said` says of what."""
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return refuse(f"run.folder={folder}: {place} cannot be written ({error.strerror})")
    if needed > free:
        return refuse(f"{said}, {place} has {free / GB:.2f} GB; lower checkpoint.keep_last or make room")
    return ok(f"{said}, {free / GB:.2f} GB are free")


def checkpoint_bytes(job: Job) -> int:
    """Bytes of the weights, and of AdamW's two moments of what is trained."""
    objective = job.get(objective_of)
    weights = sum(value.nbytes for value in objective.state_dict().values())
    groups = objective.param_groups()
    return weights + 2 * sum(p.nbytes for group in groups for p in group["params"])


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder, 0 when it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
