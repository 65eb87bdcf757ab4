"""Stop at the next step when the scheduler, or the user, asks."""

import signal
from types import FrameType
from typing import Self

PRUNED = 3  # exit code of a run that was stopped because others are better
ALARMED = 4  # of one that an alarm stopped


class StopFlag:
    """Set by SIGTERM, SIGUSR2 (a cluster's warning) or SIGINT; a second SIGINT stops at once.

    SIGUSR2 stays, whatever comes after it: it means that there is more to do. One flag inside another tells it what
    it hears, and knows what the other has heard before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, object] = {}
        self.outer: StopFlag | None = None

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            self.before[number] = signal.signal(number, self.catch)
        outer = getattr(self.before[signal.SIGUSR2], "__self__", None)
        if isinstance(outer, StopFlag):
            self.outer = outer
            self.signal = self.signal or outer.signal
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def catch(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signal != signal.SIGUSR2:
            self.signal = number
        if self.outer is not None:
            self.outer.catch(number, frame)
