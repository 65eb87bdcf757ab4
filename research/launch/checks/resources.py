"""Checks of what a job asks of its machines, as far as nothing has to be predicted."""

import shutil
import tempfile
from pathlib import Path

import torch

from research import runs
from research.contracts import Objective
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


def disk(job: Job) -> Said:
    """Whether the checkpoints have room in run.folder."""
    folder = runs.folder(job.cfg)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        return refuse(f"run.folder={job.cfg.run.folder}: {place} cannot be written ({error.strerror})")
    keep = job.cfg.checkpoint
    count = keep.keep_last + keep.keep_best + 1  # one is written before another goes
    one = checkpoint_bytes(job.get(objective_of))
    needed = max(0, count * one - size_of(folder / "checkpoints"))
    said = f"{count} checkpoints of {one / GB:.2f} GB need {needed / GB:.2f} GB"
    if needed > free:
        return refuse(f"{said}, {place} has {free / GB:.2f} GB; lower checkpoint.keep_last or make room")
    return ok(f"{said}, {free / GB:.2f} GB are free")


def checkpoint_bytes(objective: Objective) -> int:
    """Bytes of the weights, and of AdamW's two moments of what is trained."""
    weights = sum(value.nbytes for value in objective.state_dict().values())
    groups = objective.param_groups()
    return weights + 2 * sum(p.nbytes for group in groups for p in group["params"])


def size_of(folder: Path) -> int:
    """Bytes of all files under a folder, 0 when it is not there."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
