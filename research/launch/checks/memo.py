"""Answers that jobs share: one holds for every job whose config says the same wherever it was read.

What is read is noted while it happens, so that nothing has to be declared, and nothing can be declared wrongly.
"""

from collections import defaultdict
from collections.abc import Callable
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple, TypeVar

from research.config import Config
from research.errors import HarkError
from research.registry import PARTS

D = TypeVar("D")

WHOLE = (*PARTS, "schedule")  # sections of which what reads one key most likely reads all


class Outcome(NamedTuple):
    made: Any
    error: HarkError | None = None


class Memo:
    """Outcomes by what was made, the keys that it read, and the values that it read there."""

    def __init__(self) -> None:
        self.known: dict[Any, dict[tuple[str, ...], dict[tuple[Any, ...], Outcome]]] = {}
        self.reading: list[
            tuple[object, set[str]]
        ] = []  # whose config is read, and which keys; innermost last

    def get(self, make: Callable[[D], Any], of: D, value: Callable[[str], Any]) -> Outcome:
        """Give what `make(of)` gives or raises; `value(key)` says what `of` has there."""
        known = self.known.setdefault(make, defaultdict(dict))
        for keys, outcomes in known.items():
            outcome = outcomes.get(tuple(map(value, keys)))
            if outcome is not None:
                break
        else:
            keys, outcome = self.traced(make, of)
            known[keys][tuple(map(value, keys))] = outcome
        if self.reading:
            self.reading[-1][1].update(keys)
        return outcome

    def traced(self, make: Callable[[D], Any], of: D) -> tuple[tuple[str, ...], Outcome]:
        """Make it, and give the keys that were read meanwhile."""
        self.reading.append((of, set()))
        try:
            outcome = Outcome(make(of))
        except HarkError as error:
            outcome = Outcome(None, error)
        finally:
            _, keys = self.reading.pop()
        return tuple(sorted(keys)), outcome

    def note(self, of: object, key: str) -> None:
        if not self.reading:
            return
        whose, keys = self.reading[-1]
        if whose is not of:
            raise RuntimeError(f"{key}: the config of another job is read; copy what is needed later")
        keys.add(key)


def watched(config: Config, note: Callable[[str], None]) -> Config:
    """The same config, but it notes what is read of it: sections of `WHOLE` as one, others key by key."""
    seen = copy(config)
    for part in fields(config):
        section = getattr(config, part.name)
        if is_dataclass(section) and part.name not in WHOLE:
            setattr(seen, part.name, noting(section, f"{part.name}.", note))
    return noting(seen, "", note)


def noting(value: D, prefix: str, note: Callable[[str], None]) -> D:
    """The same values, whose reading is noted. Copies that `dataclasses.replace` makes of it are plain."""
    plain: Any = type(value)
    keys = {part.name for part in fields(plain)}

    def read(self: Any, name: str) -> Any:
        if name == "__class__":
            return plain
        if name in keys:
            note(prefix + name)
        return object.__getattribute__(self, name)

    def reduced(self: Any) -> Any:
        return made, (plain, {key: getattr(self, key) for key in keys})

    kind = type(
        plain.__name__,
        (plain,),
        {"__getattribute__": read, "__reduce__": reduced, "__qualname__": plain.__qualname__},
    )
    found: D = object.__new__(kind)
    vars_of(found).update(vars_of(value))
    return found


def vars_of(value: object) -> dict[str, Any]:
    found: dict[str, Any] = object.__getattribute__(value, "__dict__")
    return found


def made(plain: Any, values: dict[str, Any]) -> Any:
    """Undo pickling."""
    return plain(**values)


def value_of(config: Config, key: str) -> tuple[str, str]:
    """What makes a difference at a key: the type, and all values, but of a section whose keys are noted."""
    section, _, name = key.partition(".")
    value = getattr(config, section)
    if name:
        value = getattr(value, name, None)  # not every kind of section has it
    elif is_dataclass(value) and section not in WHOLE:
        return type(value).__module__, type(value).__qualname__
    return type(value).__module__, repr(value)
