"""The cluster that other tests run their jobs on."""

import os
import subprocess
import sys

from tests.slurm.cluster import Cluster, free
from tests.slurm.fixture import HOME, private
from tests.slurm.locks import claim
from tests.slurm.queue import until

OWNER = """
from tests.slurm.fixture import private
with private({}) as cluster:
    print(cluster.port, flush=True)
    input()
"""


def test_a_job_runs_on_every_node(slurm, tmp_path):
    done = slurm.client("srun", "--nodes=2", "printenv", "SLURMD_NODENAME")
    assert sorted(done.stdout.split()) == ["127.0.0.1", "127.0.0.2"]
    assert os.environ["SLURM_CONF"] == str(slurm.conf)  # commands of this process find the same cluster


def test_up_starts_only_what_is_gone(slurm):
    before = {name: slurm.alive(name).pid for name in ("munged", "slurmctld", "slurmd.127.0.0.1")}
    slurm.kill_controller()
    assert slurm.alive("slurmctld") is None
    assert slurm.client("scontrol", "ping").returncode
    slurm.up()
    after = {name: slurm.alive(name).pid for name in before}
    assert [name for name in before if before[name] != after[name]] == ["slurmctld"]


def test_jobs_outlive_a_restart_of_the_controller(slurm, tmp_path):
    job = slurm.client(
        "sbatch", "--parsable", f"--output={tmp_path}/%j", "--wrap=srun sleep 60"
    ).stdout.strip()
    until(lambda: slurm.client("squeue", "-h", "-j", job, "-o", "%T").stdout == "RUNNING\n")
    slurm.restart_controller()
    assert slurm.client("squeue", "-h", "-j", job, "-o", "%T").stdout == "RUNNING\n"
    slurm.clear()
    assert slurm.client("squeue", "-h").stdout == ""


def test_nothing_is_left_after_down_even_of_a_cluster_whose_daemons_were_killed(slurm, tmp_path):
    with private() as other:  # two of them do not disturb each other
        assert other.port != slurm.port
        other.client("sbatch", f"--output={tmp_path}/%j", "--array=0-9", "--wrap=srun sleep 60")
        until(lambda: "sleep" in [process.name() for process in other.processes()])
        names = ("munged", "slurmctld", "slurmd.127.0.0.1", "slurmd.127.0.0.2")
        for daemon in [other.alive(name) for name in names]:
            daemon.kill()
        until(lambda: not any(other.alive(name) for name in names))
    assert not [name for name in names if other.alive(name)]
    assert other.processes() == []
    assert not other.folder.exists()
    assert free(other.port)
    until(slurm.ready)  # it may still clean up after the test before


def test_a_cluster_of_a_killed_process_is_ended_by_the_next(slurm):
    ports = range(25000, 25100, 10)  # nobody else's
    with subprocess.Popen(
        [sys.executable, "-c", OWNER.format(ports)], stdin=-1, stdout=-1, text=True
    ) as owner:
        port = int(owner.stdout.readline())
        lock = HOME / f"{port}.lock"
        assert claim(lock, wait=False) is None
        owner.kill()
    orphan = Cluster(HOME / str(port), port)
    assert orphan.alive("slurmctld")
    with private([port]) as cluster:
        assert cluster.port == port
        assert cluster.ready()
    assert orphan.alive("slurmctld") is None
