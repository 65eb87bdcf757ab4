"""Stop at the next step when the scheduler, or the user, asks."""

import signal
from types import FrameType
from typing import Self


class StopFlag:
    """Set by SIGTERM, SIGUSR2 (a cluster's warning) or SIGINT; a second SIGINT stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            self.before[number] = signal.signal(number, self.catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def catch(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
