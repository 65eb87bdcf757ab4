"""Hand orders to the scheduler of their cluster; what is about to be done is written down before it is."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import OmegaConf

from research import runs
from research.config import Cluster, Scheduler
from research.launch.sweep.backend import Backend
from research.launch.sweep.cell import Cell
from research.launch.sweep.ledger import Submission, events, note, submission
from research.launch.sweep.local import Local
from research.launch.sweep.order import Order, read_order
from research.launch.sweep.slurm import Slurm
from research.launch.sweep.standing import WAITING, State, orders_of


def backends(folder: Path) -> dict[str, Backend]:
    """Give every scheduler by its name. `folder` is the one that run folders are made in."""
    return {Scheduler.local.value: Local(folder), Scheduler.slurm.value: Slurm()}


def training(cell: Cell, sweep: Path, code: Path) -> Order:
    """What a job does that trains a legal cell. The run may be there, under another name of the same signature."""
    composed, run = cell.composed, cell.folder
    assert composed is not None
    name = run.name.removesuffix(f"-{runs.signature(composed.config)}")
    config = replace(composed.config, run=replace(composed.config.run, name=name, folder=str(run.parent)))
    runs.create(config, composed.choices, composed.overrides)
    values = {"plugins": composed.choices, **runs.values_of(config)}
    return Order(
        str(run), sweep.name, str(sweep), str(code), str(Path.cwd()), "train", values, composed.overrides
    )


def probing(train: Order, words: Sequence[str], after: str = "") -> Order:
    """What a job does that probes the run of `train`, after the job `after`: one process is enough for it."""
    cluster = train.values["cluster"] | {"nodes": 1, "per_node": 1}
    values = train.values | {"cluster": cluster}
    return replace(train, kind="probe", values=values, probe=list(words), after=after)


def submit(orders: Sequence[Order], schedulers: Mapping[str, Backend]) -> list[str]:
    """Queue every order, those of equal clusters as one array; give the ids of the jobs, in order.

    Nobody else may be submitting these: whoever calls this holds the lock of sweeps.
    HarkError when a scheduler refuses; what it took before is noted in the runs.
    """
    take_back(orders, schedulers)
    ids = [""] * len(orders)
    for cluster, members in by_cluster(orders):
        batch = f"{orders[members[0]].sweep}-{uuid.uuid4().hex[:8]}"
        part = [orders[k] for k in members]
        files = [Path(order.folder) / "orders" / f"{batch}-{i}.json" for i, order in enumerate(part)]
        for file, order in zip(files, part, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            order.save(file)
            facts = {"scheduler": cluster.scheduler.value, "sweep": order.sweep, "code": order.code}
            note(Path(order.run), "queued", job="", kind=order.kind, batch=batch, order=str(file), **facts)
        given = schedulers[cluster.scheduler.value].submit(files, part, cluster, batch)
        for k, order, job in zip(members, part, given, strict=True):
            note(Path(order.run), "submitted", job=job, kind=order.kind, batch=batch)
            ids[k] = job
    return ids


def take_back(orders: Sequence[Order], schedulers: Mapping[str, Backend]) -> None:
    """End what is left of a submission that was broken off half way, before its jobs are submitted anew."""
    for sub in {sub.batch: sub for sub in submissions(orders) if not sub.job}.values():
        scheduler = schedulers[sub.scheduler]
        if isinstance(scheduler, Slurm):  # a local one takes all of a submission at once
            together = [read_order(file) for file in orders_of(sub)]
            # those that have begun noted it: they stay
            known = {other.job for other in submissions(together) if other.batch == sub.batch}
            scheduler.take_back(sub.batch, len(together), known)


def submissions(orders: Sequence[Order]) -> list[Submission]:
    """What was submitted last for the runs of orders, where anything was."""
    found = [submission(events(Path(order.run), order.kind)) for order in orders]
    return [sub for sub in found if sub]


def withdraw(probe: State, schedulers: Mapping[str, Backend]) -> None:
    """Take back probes that wait, for a training which failed: they would for ever."""
    if probe.last and probe.standing in WAITING:
        schedulers[probe.last.scheduler].cancel([probe.job])


def by_cluster(orders: Sequence[Order]) -> list[tuple[Cluster, list[int]]]:
    """Give the numbers of the orders that ask for the same."""
    groups: list[tuple[Cluster, list[int]]] = []
    for k, order in enumerate(orders):
        cluster = cluster_of(order)
        for other, members in groups:
            if other == cluster:
                members.append(k)
                break
        else:
            groups.append((cluster, [k]))
    return groups


def cluster_of(order: Order) -> Cluster:
    merged = OmegaConf.merge(OmegaConf.structured(Cluster), order.values["cluster"])
    cluster = OmegaConf.to_object(merged)
    assert isinstance(cluster, Cluster)
    return cluster
