"""Trials of a run by real steps, in a worker process that is watched, killed when it takes too much, and replaced."""

import multiprocessing
import signal
from multiprocessing.process import BaseProcess

import psutil

from research.config import Config
from research.errors import HarkError
from research.launch.team import Team
from research.launch.trial import Trial
from research.launch.worker import Answer, Batches, Outcome, Place, serve

PAUSE = 0.005  # s between two looks at the memory of a worker
GRACE = 5.0  # s that a worker may take to end by itself
ROUNDS = 1  # of batches that take turns, after one to warm up
FULL = (Outcome.full, Outcome.ruined)


class Bench:
    """One worker for each rank of a team; what does not fit into one of them does not fit."""

    def __init__(self, cfg: Config, team: Team) -> None:
        self.cfg, self.team = cfg, team
        self.process: BaseProcess | None = None
        self.place = self.start()
        self.device, self.memory = self.place.name, self.place.memory

    def start(self) -> Place:
        """Start a worker and hear where it is; HarkError when it cannot be there."""
        spawn = multiprocessing.get_context("spawn")  # a fork would share memory, and no CUDA
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(end, self.cfg, self.team.meeting()), daemon=True)
        self.process.start()
        self.memory_of = psutil.Process(self.process.pid).memory_info
        end.close()  # so that the end of the worker is seen here
        place = self.hear()
        if isinstance(place, Answer):
            settle(place)
        assert isinstance(place, Place)
        return place

    def measure(self, rows: int, seconds: float, steps: int, limit: int) -> Trial:
        """Do `steps` timed steps after one to warm up, within `limit` bytes; give the worst that a rank found.

        All ranks call this. HarkError: the config is wrong; RuntimeError: a step fails, and not for want of memory.
        """
        fits, peak, time = self.agree(self.ask([(rows, seconds)], steps, limit))
        return Trial(rows, seconds, peak, fits, time)

    def in_turn(self, batches: Batches, limit: int) -> tuple[bool, int]:
        """Do steps of batches that take turns; give whether they fit, and their peak in bytes. All ranks call this."""
        fits, peak, _ = self.agree(self.ask(batches, ROUNDS, limit))
        return fits, peak

    def ask(self, batches: Batches, steps: int, limit: int) -> list[Answer]:
        """Give the answers of all ranks' workers; they are ended where they cannot go on together."""
        if self.process is None:
            self.start()
        self.pipe.send((batches, steps, limit))
        mine = self.watch(limit)
        if mine.outcome is not Outcome.fits:
            self.team.alarm()
        told = self.team.gather((mine.outcome.value, mine.peak, mine.time, mine.said))
        answers = [Answer(Outcome(outcome), peak, time, said) for outcome, peak, time, said in told]
        harmless = (Outcome.fits, Outcome.full) if self.team.size == 1 else (Outcome.fits,)
        if any(answer.outcome not in harmless for answer in answers):
            self.stop()
        return answers

    def agree(self, answers: list[Answer]) -> tuple[bool, int, float | None]:
        """Give the worst of the answers: whether it fits, bytes, s per step."""
        peak = max(answer.peak for answer in answers)
        if any(answer.outcome in FULL for answer in answers):
            return False, peak, None
        for answer in answers:
            settle(answer)
        return True, peak, max(answer.time or 0.0 for answer in answers)

    def watch(self, limit: int) -> Answer:
        """Wait for the worker's answer; kill it when it takes more of the host's memory than it may."""
        peak, counts = 0, self.place.kind == "cpu"
        while not self.pipe.poll(PAUSE):
            peak = max(peak, self.resident() if counts else 0)
            if peak > limit:
                self.stop()
                return Answer(Outcome.ruined, peak)
            if self.team.alarmed():
                self.stop()
                return Answer(Outcome.left, peak)
        answer = self.hear()
        assert isinstance(answer, Answer)
        return Answer(answer.outcome, max(peak, answer.peak), answer.time, answer.said)

    def hear(self) -> Answer | Place:
        """Receive what the worker says, or find out how it ended."""
        try:
            said: Answer | Place = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            assert self.process is not None
            self.process.join(GRACE)
            code = self.stop()
            if code == -signal.SIGKILL:  # by the kernel: the machine had less memory than the limit
                return Answer(Outcome.ruined, said="the system was out of memory")
            return Answer(Outcome.broken, said=f"the process that tried it ended with exit code {code}")
        return said

    def resident(self) -> int:
        """Memory of the worker in bytes; 0 when it has just ended."""
        try:
            return int(self.memory_of().rss)
        except psutil.NoSuchProcess:
            return 0

    def close(self) -> None:
        """Let the worker end when it is at the end of its step, or end it."""
        if self.process is not None:
            self.pipe.close()
            self.process.join(GRACE)
        self.stop()

    def stop(self) -> int | None:
        """End the worker, if there is one; give its exit code."""
        if self.process is None:
            return None
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        self.process = None
        self.pipe.close()
        return code


def settle(answer: Answer) -> None:
    """Raise what is wrong with a config or with a step."""
    if answer.outcome is Outcome.refused:
        raise HarkError(answer.said)
    if answer.outcome is Outcome.broken:
        raise RuntimeError(answer.said)
