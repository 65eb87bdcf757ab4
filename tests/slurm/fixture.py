"""A cluster of one's own: of a test process, or of a user who tries sweeps."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.cluster import Cluster, free
from tests.slurm.locks import claim

HOME = Path(tempfile.gettempdir()) / f"hark-slurm-{os.geteuid()}"
TOY, OTHERS = (
    24000,
    range(24010, 25000, 10),
)  # ports: of the user's, of the tests'; below those that Linux gives away


def toy() -> Cluster:
    """The one that `make slurm-up` starts, for as long as it is wanted."""
    return Cluster(HOME / str(TOY), TOY)


@contextmanager
def private(ports: Sequence[int] = OTHERS) -> Iterator[Cluster]:
    """A running cluster that no other process uses; what a killed process has left behind is ended first."""
    for port in ports:
        lock = claim(HOME / f"{port}.lock", wait=False)
        if lock is None:
            continue
        with lock:
            cluster = Cluster(HOME / str(port), port)
            cluster.down()
            if not free(port):
                continue
            try:
                cluster.up()
                yield cluster
            finally:
                cluster.down()
            return
    raise RuntimeError(f"no free ports for a cluster from {ports[0]} to {ports[-1]}")
