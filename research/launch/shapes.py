"""What operators give for tensors without values, remembered: torch works most of it out in Python, each time anew."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

LIMIT = 20_000  # that are remembered: those of some dozen models


class UnknownError(Exception):
    """The operator has to be called."""


def tensors(*values: Any) -> Iterator[Tensor]:
    """Give those in (lists of) arguments or results of an operator."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(*value)


@cache
def pure(func: Any) -> bool:
    """Whether an operator neither changes its arguments nor says that it gives parts of them."""
    schema = func._schema  # noqa: SLF001  torch's only name for it
    return not any(each.alias_info for each in (*schema.arguments, *schema.returns))


def form(value: Any) -> Any:
    """What the result of an operator depends on, of an argument: all but values. UnknownError: on values too."""
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise UnknownError
        return value.dtype, value.size(), value.stride()
    if isinstance(value, list | tuple):
        return tuple(map(form, value))
    return type(value), value


class Shapes:
    """Call operators, or know what they would give."""

    def __init__(self) -> None:
        self.known: dict[Any, Callable[[], Any]] = {}

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not pure(func):
            return func(*args, **kwargs)
        try:
            key = func, form(args), tuple(kwargs), form(tuple(kwargs.values()))
        except UnknownError:
            return func(*args, **kwargs)
        made = self.known.get(key)
        if made is not None:
            return made()
        out = func(*args, **kwargs)
        if alone(out, (args, tuple(kwargs.values()))):
            if len(self.known) >= LIMIT:
                self.known.clear()
            self.known[key] = again(out)
        return out


def alone(out: Any, given: Any) -> bool:
    """Whether results are tensors without values, each with memory of its own and no more of it than it needs."""
    results = (out,) if isinstance(out, Tensor) else out
    if not isinstance(results, tuple):
        return False
    taken = {each.untyped_storage()._cdata for each in tensors(given)}  # noqa: SLF001  its identity
    for each in results:
        if not isinstance(each, Tensor) or not each.is_meta:
            return False
        storage = each.untyped_storage()
        if storage._cdata in taken or storage.nbytes() != like(each)().untyped_storage().nbytes():  # noqa: SLF001
            return False
        taken.add(storage._cdata)  # noqa: SLF001
    return True


def again(out: Any) -> Callable[[], Any]:
    """Make such results anew."""
    if isinstance(out, Tensor):
        return like(out)
    parts = [like(each) for each in out]
    return lambda: tuple(part() for part in parts)


def like(x: Tensor) -> Callable[[], Tensor]:
    size, stride, dtype = x.size(), x.stride(), x.dtype
    return lambda: torch.empty_strided(size, stride, dtype=dtype, device="meta")
