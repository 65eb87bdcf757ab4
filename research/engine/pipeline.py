"""Reading ahead in the threads of fairseq2's C++ data pipeline."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from research.engine.bindings import problem
from research.errors import HarkError

A = TypeVar("A")
B = TypeVar("B")

AHEAD = 2  # results per worker that are ready before they are asked for


@dataclass(slots=True)
class Box:
    """Carries any object through the pipeline, which would turn strings, lists and dicts into its own types."""

    value: Any = None
    error: BaseException | None = None


def read(items: Iterable[A], load: Callable[[A], B], workers: int, *, pin: bool = False) -> Iterator[B]:
    """Give `load(item)` for every item, in order, `workers` of them at a time; with none, in the caller's thread.

    `items` may be endless and is read from only as far ahead as needed; an error of `load` or `items` reaches the
    caller as it is. `load` runs in threads: what it does outside Python's lock (decoding, numpy, torch) runs at once.
    With `pin`, results pin their memory there too.
    HarkError when fairseq2's bindings do not load.
    """
    if problem():
        raise HarkError(
            f"data.reader=fairseq2: its native part does not load ({problem()}); use data.reader=torch"
        )
    return ahead(items, pinned(load) if pin else load, workers)


def pinned(load: Callable[[A], Any]) -> Callable[[A], Any]:
    return lambda item: load(item).pin_memory()


def ahead(items: Iterable[Any], load: Callable[[Any], Any], workers: int) -> Iterator[Any]:
    """Make the pipeline when the first result is asked for: one that is dropped unread would crash the process."""
    from fairseq2.data.data_pipeline import read_iterator  # noqa: PLC0415  needs the bindings

    def call(box: Box) -> Box:
        try:
            return box if box.error else Box(load(box.value))
        except BaseException as error:  # noqa: BLE001  the caller gets it
            return Box(error=error)

    source = read_iterator(boxed(items), lambda same: same, infinite=False, skip_pickling_check=True)
    source = source.map(call, num_parallel_calls=max(1, workers)).prefetch(AHEAD * workers)
    for box in source.and_return():
        if box.error is not None:
            raise box.error
        yield box.value


def boxed(items: Iterable[Any]) -> Iterator[Box]:
    try:
        for item in items:
            yield Box(item)
    except Exception as error:  # noqa: BLE001  the caller gets it
        yield Box(error=error)
