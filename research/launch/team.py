"""The processes that torchrun started for a command, which have to agree on what their workers found."""

import json
import os
import socket
from datetime import timedelta
from typing import TypeVar

from torch.distributed import Store  # type: ignore[attr-defined]  # in no __all__
from torch.distributed.rendezvous import rendezvous

from research.errors import HarkError

T = TypeVar("T")
FOREVER = timedelta(days=30)  # a rank may wait for another that compiles, or reads headers


class Team:
    """One process among its ranks. They speak through a store: in a collective call, a lost one would stop them all."""

    def __init__(self) -> None:
        self.rank, self.size = 0, int(os.environ.get("WORLD_SIZE", "1"))
        self.store: Store | None = None
        self.talks = 0
        if self.size > 1:
            try:
                self.store, self.rank, _ = next(rendezvous("env://", timeout=FOREVER))
            except ValueError as error:
                raise HarkError(
                    f"WORLD_SIZE={self.size}: start several ranks with torchrun ({error})"
                ) from None

    def gather(self, value: T) -> list[T]:
        """Give what every rank has, in their order; plain values. All ranks call this."""
        if self.store is None:
            return [value]
        self.talks += 1
        self.store.set(f"hark/{self.talks}/{self.rank}", json.dumps(value))
        return [json.loads(self.store.get(f"hark/{self.talks}/{rank}")) for rank in range(self.size)]

    def alarm(self) -> None:
        """Tell the others not to wait for what this rank's worker was to do before the next `gather`."""
        if self.store is not None:
            self.store.set(f"hark/{self.talks}/alarm", "")

    def alarmed(self) -> bool:
        """Whether a rank has given the alarm since the last `gather`."""
        return self.store is not None and self.store.check([f"hark/{self.talks}/alarm"])

    def meeting(self) -> dict[str, str]:
        """Give the environment in which new workers find each other: a port that no earlier ones have used."""
        if self.store is None:
            return {}
        with socket.socket() as one:
            one.bind(("", 0))
            port = self.gather(one.getsockname()[1])[0]
        return {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}
