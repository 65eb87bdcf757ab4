"""SLURM from Debian's packages."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.locks import held

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
NEEDED = ("munged", "munge", "slurmctld", "slurmd", "srun", "sbatch", "squeue", "scontrol")
APT = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=20")
POLICY = Path("/usr/sbin/policy-rc.d")


def find(program: str) -> str | None:
    """Daemons live where an ordinary user's PATH does not look."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def absent() -> list[str]:
    return [program for program in NEEDED if not find(program)]


def install(home: Path) -> str:
    """Install what is missing where that is possible; give the reason why SLURM is not there, or nothing."""
    with held(home / "packages.lock"):  # one process installs, the others find it
        gone = absent()
        if not gone:
            return ""
        missing = f"no {', '.join(gone)} on this machine"
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            return (
                f"{missing}, and only root can install them, with apt: apt-get install {' '.join(PACKAGES)}"
            )
        with no_services():
            for words in (("update",), ("install", "-y", "--no-install-recommends", *PACKAGES)):
                done = subprocess.run(
                    [*APT, *words],
                    check=False,
                    env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    capture_output=True,
                    text=True,
                )
                if done.returncode:
                    said = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
                    return f"{missing}, and apt-get {words[0]} failed: {said[-1]}"
        return f"no {', '.join(absent())} after apt-get install" if absent() else ""


@contextmanager
def no_services():
    """Keep the packages from starting daemons of their own, unless the machine has said what may start."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
