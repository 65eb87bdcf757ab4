"""How a job begins and ends, in the ledger of its run: once per job, whichever of its ranks knows it first."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from research.engine.weights import steps
from research.errors import HarkError
from research.files import write
from research.launch.sweep import ledger
from research.launch.sweep.order import Order
from research.launch.sweep.place import Place
from research.training.health import record as alarms
from research.training.signals import ALARMED, StopFlag

PEER = ("by peer", "gloo", "nccl")  # words of an error that another rank's end made, in small letters
PATIENCE = 5.0  # s that such an error waits for its cause to be told
HOLD = 60.0  # s that a rank waits for the one that tells
LATE = 30.0  # s within which a signal reaches every rank


class Ending:
    def __init__(self, path: Path, order: Order, place: Place, flag: StopFlag) -> None:
        self.order, self.place, self.flag = order, place, flag
        self.run = Path(order.run)
        # the rank that makes this file tells the error
        self.claims = path.with_suffix(f".{place.starts}.error")

    def began(self) -> None:
        if self.place.rank == 0:
            facts = {"host": socket.gethostname(), "pid": os.getpid(), "logs": self.place.logs}
            self.note("began", step=self.step(), **facts)

    def done(self) -> int:
        if self.place.rank == 0:
            self.ended("done")
        return 0

    def pruned(self) -> int:
        if self.place.rank == 0:
            self.ended("pruned")
        return 0

    def alarmed(self) -> int:
        """After an alarm, all saved. Doing the same again would end the same."""
        if self.place.rank == 0:
            self.ended("alarmed", "; ".join(f"{name}: {says}" for name, says in alarms.on(self.run).items()))
        return ALARMED

    def stopped(self) -> int:
        """After a signal, all saved. What is to go on is queued again; after SIGTERM, SLURM decides: wait for it."""
        if self.place.rank:
            return 0
        heard = self.heard()
        again = heard == signal.SIGUSR2
        if not again:
            self.ended("stopped")
        while self.place.holds and not again and not self.cancelled():
            time.sleep(0.5)
            again = self.flag.signal == signal.SIGUSR2
        return self.again("stopped") if again and not self.cancelled() else 128 + heard

    def heard(self) -> int:
        """Give the signal; it may have reached another rank a little earlier."""
        for _ in range(int(LATE / 0.1)):
            if self.flag.signal is not None:
                return self.flag.signal
            time.sleep(0.1)
        return signal.SIGUSR2

    def failed(self, error: BaseException) -> int:
        """After an error. Of several ranks the first one tells its own; the others wait, for their end would end it."""
        if self.place.size == 1:
            return self.tell(told(error), refused=isinstance(error, HarkError))
        by_peer = any(word in str(one).lower() for one in chain(error) for word in PEER)
        time.sleep(PATIENCE if by_peer else 0)
        try:
            self.claims.touch(exist_ok=False)
        except FileExistsError:
            self.wait()
            return 1
        line = "a rank ended without a word: killed, or out of memory?" if by_peer else told(error)
        try:
            return self.tell(line, refused=isinstance(error, HarkError))
        finally:
            write(self.claims, line)

    def tell(self, line: str, *, refused: bool) -> int:
        """Note an error, and queue the job again unless that would be of no use."""
        this = {"event": "ended", "outcome": "failed", "error": line, "step": self.step()}
        times = ledger.same_errors([*ledger.events(self.run, self.order.kind), this])
        if not refused and times < self.order.values["cluster"]["tries"]:
            return self.again("failed", line)
        self.ended("failed", line)
        return 1

    def wait(self) -> None:
        """Until the rank that made the file has written to it: then it needs nothing more."""
        for _ in range(int(HOLD / 0.1)):
            if self.claims.stat().st_size:
                return
            time.sleep(0.1)

    def again(self, outcome: str, error: str = "") -> int:
        self.ended(outcome, error, again=True)
        try:
            return self.place.again()
        except HarkError as refusal:
            self.ended(outcome, f"{error}; {refusal}" if error else str(refusal))
            return 1

    def cancelled(self) -> bool:
        """Whether the user wants no more of this start."""
        for event in reversed(ledger.events(self.run, self.order.kind)):
            if event["event"] == "cancelled":
                return True
            if event["event"] == "began" and event["job"] == self.place.job:
                return False
        return False

    def ended(self, outcome: str, error: str = "", *, again: bool = False) -> None:
        self.note("ended", outcome=outcome, step=self.step(), error=error, again=again)

    def note(self, event: str, **facts: Any) -> None:
        ledger.note(self.run, event, job=self.place.job, kind=self.order.kind, **facts)

    def step(self) -> int:
        return max(steps(self.run / "checkpoints"), default=0)


def told(error: BaseException) -> str:
    """Give the line of a traceback that says what happened."""
    line = next(iter(str(error).strip().splitlines()), "")
    name = type(error).__name__
    return line if isinstance(error, HarkError) else f"{name}: {line}" if line else name


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and all that it came of."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
