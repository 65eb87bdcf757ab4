"""A cluster of two nodes on 127.0.0.1: munged, slurmctld and two slurmd, all in a folder of their own.

Nothing outside of that folder is written, and only what was started from it is ever ended.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tests.slurm import conf
from tests.slurm.packages import find

READY = {"idle", "mixed", "allocated", "completing"}  # with a "*" behind it, a node does not answer


class Cluster:
    def __init__(self, folder: Path, port: int):
        self.folder, self.port = folder, port
        self.conf = folder / "slurm.conf"

    def environment(self) -> dict[str, str]:
        """What SLURM's commands have to see to speak with this cluster."""
        return {"SLURM_CONF": str(self.conf)}

    def up(self) -> None:
        """Start what is not running; return when both nodes take jobs."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        if self.folder.stat().st_uid != os.geteuid():
            raise RuntimeError(f"{self.folder} belongs to somebody else")
        if not self.conf.exists():
            self._configure()
        key, socket_, seed = (self.folder / f"munge.{name}" for name in ("key", "socket", "seed"))
        words = [f"--key-file={key}", f"--socket={socket_}", f"--seed-file={seed}"]
        words += [f"--pid-file={self._pid('munged')}", f"--log-file={self.folder / 'munged.log'}"]
        self._start("munged", "munged", "--force", *words)
        self._until(lambda: not self.client("munge", "-S", str(socket_), "-n").returncode, "munged")
        self.start_controller()
        for node in conf.NODES:
            self._start("slurmd", f"slurmd.{node}", "-N", node, "-f", str(self.conf))
        self._until(self.ready, "both nodes")

    def down(self) -> None:
        """End the jobs, then the daemons, and remove the folder; jobs outlive daemons that were killed."""
        if self.alive("slurmctld"):
            self.clear()
        for name in (*(f"slurmd.{node}" for node in conf.NODES), "slurmctld", "munged"):
            self._stop(name)
        self._until(lambda: not self._kill(), "the end of what the jobs have started")
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-f", str(self.conf))
        self._until(lambda: not self.client("scontrol", "ping").returncode, "slurmctld")

    def restart_controller(self) -> None:
        """As an update would: it saves what it knows."""
        self._stop("slurmctld")
        self.start_controller()

    def kill_controller(self) -> None:
        """As a crash would: jobs of the last seconds are forgotten, and ended by the next that starts."""
        self._stop("slurmctld", signal.SIGKILL)

    def saved(self) -> None:
        """Return when a crash would forget nothing of what was done before: a later job is in what was saved."""
        state, name = self.folder / "state/job_state", f"saved-{time.time_ns()}"
        words = ("--hold", f"--job-name={name}", "--output=/dev/null", "--wrap=true")
        job = self.client("sbatch", "--parsable", *words).stdout.strip()
        self.client("scancel", "--quiet", job)
        self._until(lambda: state.exists() and name.encode() in state.read_bytes(), "a save", seconds=300)

    def clear(self) -> None:
        """End every job at once: a killed process is not waited for as one that is told to end."""
        for words in (["--state=PENDING"], ["--full", "--signal=KILL"], []):
            self.client("scancel", "--quiet", f"--user={os.geteuid()}", *words)
        self._until(lambda: not self.client("squeue", "-h").stdout.strip(), "the jobs' end")

    def ready(self) -> bool:
        """Both nodes take jobs."""
        states = self.client("sinfo", "-h", "-N", "-p", "high", "-o", "%T").stdout.split()
        return len(states) == len(conf.NODES) and set(states) <= READY

    def client(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of SLURM's commands against this cluster."""
        return self._run(words)

    def alive(self, name: str) -> psutil.Process | None:
        """The process of a daemon (slurmctld, slurmd.127.0.0.1, munged), if it is the one that was started here."""
        try:
            process = psutil.Process(int(self._pid(name).read_text()))
            # nobody may have asked for the exit of what ended: such a process counts as gone
            same = process.name() == name.partition(".")[0] and process.status() != psutil.STATUS_ZOMBIE
            ours = str(self.folder) in " ".join(process.cmdline())
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return process if same and ours else None

    def processes(self) -> list[psutil.Process]:
        """What of its jobs still runs: what a step has started, and the step's keeper."""
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _kill(self) -> int:
        """What is being started while others are killed is met the next time: give how many there were."""
        found = self.processes()
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(found)

    def _owns(self, process: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # a zombie's environment is denied, too
            if process.name().startswith("slurmstepd"):  # it writes its title over its environment
                return any(file.path.startswith(f"{self.folder}/") for file in process.open_files())
            there = process.environ()
            return "SLURM_JOB_ID" in there and there.get("SLURM_CONF") == str(self.conf)
        return False

    def _pid(self, name: str) -> Path:
        return self.folder / f"{name}.pid"

    def _configure(self) -> None:
        for name in ("state", *(f"spool.{node}" for node in conf.NODES)):
            (self.folder / name).mkdir()
        (self.folder / "plugstack.conf").touch()
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        self.conf.write_text(conf.text(self.folder, self.port, first=int(time.time()) % 10_000_000 + 1))

    def _start(self, program: str, name: str, *words: str) -> None:
        if self.alive(name):
            return
        done = self._run([find(program) or program, *words])
        if done.returncode:
            raise RuntimeError(
                f"{program} does not start: {done.stderr.strip()}; see {self.folder}/{name}.log"
            )

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **self.environment()}
        return subprocess.run(words, check=False, env=environment, capture_output=True, text=True, timeout=60)

    def _stop(self, name: str, number: int = signal.SIGTERM) -> None:
        process = self.alive(name)
        if process is None:
            return
        process.send_signal(number)
        with suppress(RuntimeError):
            self._until(lambda: not self.alive(name), name, seconds=10)
            return
        process.kill()

    def _until(self, done, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise RuntimeError(f"waited {seconds:.0f} s for {what}; see {self.folder}/*.log")
            time.sleep(0.05)


def free(port: int) -> bool:
    """Nothing listens on any of the ports that a cluster there would take."""
    for number in range(port, port + 1 + len(conf.NODES)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", number))
            except OSError:
                return False
    return True
