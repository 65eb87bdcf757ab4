"""The way of batches to a GPU: each is copied there while the step before it runs."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from research.data.loader import Loaded

A = TypeVar("A")
B = TypeVar("B")
L = TypeVar("L", bound=Loaded)


def ahead(read: Iterator[L], device: torch.device) -> Iterator[L]:
    """Give what was read with its batch on `device`, one batch ahead of who asks where this is a GPU.

    A reader that pins what it reads leaves nothing of the copy to this thread. Other devices share the host's memory:
    they get what was read as it is.
    """
    return one_ahead(read, Copies(device).send) if device.type == "cuda" else read


def one_ahead(items: Iterator[A], send: Callable[[A], Callable[[], B]]) -> Iterator[B]:
    """Send each item before the one in front of it is given; what `send` gives hands its item out.

    Trouble with reading an item is told when that item is asked for, which may be never.
    """
    receive: Callable[[], B] | None = None
    try:
        for item in items:
            before, receive = receive, send(item)
            if before is not None:
                yield before()
    except Exception:
        if receive is not None:
            yield receive()
        raise
    if receive is not None:
        yield receive()


class Copies:
    """Copies batches to a GPU on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.stream = device, torch.cuda.Stream(device)

    def send(self, loaded: L) -> Callable[[], L]:
        """Begin to copy; what is given makes the device wait for the copy, never the host."""
        if loaded.batch is None:
            return lambda: loaded
        with torch.cuda.stream(self.stream):
            batch = loaded.batch.map(Tensor.pin_memory).to(self.device)
            copied = self.stream.record_event()

        def receive() -> L:
            user = torch.cuda.current_stream(self.device)
            user.wait_event(copied)
            loaded.batch = batch.map(lambda x: kept_for(x, user))
            return loaded

        return receive


def kept_for(x: Tensor, user: torch.cuda.Stream) -> Tensor:
    """The same tensor, whose memory this stream may use until it is done."""
    x.record_stream(user)
    return x
