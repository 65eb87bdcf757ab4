"""Which tensors of a source go where in a model, key by key."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

from torch import Tensor

from research.errors import HarkError, nearest
from research.interop.origin import Origin
from research.interop.source import Source


class Fate(Enum):
    loaded = "loaded"
    skipped = "skipped"  # by the patterns
    missing = "missing"  # included, and not in the source
    shape = "shape"  # included, in both, and different
    unexpected = "unexpected"  # included, and not in the model


@dataclass
class Copy:
    """What one source gives to a model."""

    origin: Origin
    source: Source
    fates: dict[str, Fate]  # by the run's names
    values: dict[str, Tensor]  # what is copied
    misshapen: dict[str, str]  # both shapes

    def of(self, fate: Fate) -> list[str]:
        return [name for name, found in self.fates.items() if found is fate]

    @property
    def summary(self) -> str:
        counts = ", ".join(f"{len(self.of(fate))} {fate.value}" for fate in Fate)
        return f"init: {self.source.path} ({self.source.kind}): {counts}"

    def __str__(self) -> str:
        lines = (
            f"  {fate.value:10}  {name}{self.misshapen.get(name, '')}" for name, fate in self.fates.items()
        )
        return "\n".join([self.summary, *lines])

    @property
    def failed(self) -> list[str]:
        """The tensors for which the run must not start: missing ones, if they are too many, then misshapen ones."""
        missing = self.of(Fate.missing)
        too_many = len(missing) > self.origin.allow_missing * self.wanted or not self.of(Fate.loaded)
        return (missing if too_many else []) + self.of(Fate.shape)

    @property
    def wanted(self) -> int:
        """How many tensors of the model the patterns include."""
        return sum(len(self.of(fate)) for fate in (Fate.loaded, Fate.missing, Fate.shape))

    def require(self, advice: str) -> None:
        """Raise HarkError for a shape that differs, or when too much is missing."""
        failed, shapes = self.failed, len(self.of(Fate.shape))
        if not failed:
            return
        said, way = [], "exclude them"
        if missing := len(failed) - shapes:
            said, way = [f"{missing} have no counterpart in this {self.source.kind} checkpoint"], self.offer()
        if shapes:
            said.append(f"{shapes} have another shape")
        first = f"the first is '{failed[0]}'{self.misshapen.get(failed[0], '')}"
        raise HarkError(
            f"{self.origin}: of {self.wanted} tensors of the model {' and '.join(said)}, {first}; {advice}{way}"
        )

    def offer(self) -> str:
        """Name what would do: the parts of the model that the source has whole, the encoder among them, or a share."""
        whole = {top(name) for name in self.of(Fate.loaded)} - {top(name) for name in self.failed}
        if "encoder" in whole:
            return f"include: [{', '.join(f'{part}.*' for part in sorted(whole))}] takes what is there"
        share = math.ceil(100 * len(self.of(Fate.missing)) / self.wanted) / 100
        return f"rename what has another name, or set allow_missing: {share:g}"


def match(origin: Origin, source: Source, target: Mapping[str, Tensor]) -> Copy:
    """Decide the fate of every tensor of both; HarkError when a pattern or `rename` fits no name."""
    state = renamed(origin, source.state)
    check_patterns(origin, target, state, source.kind)
    fates: dict[str, Fate] = {}
    for name in dict.fromkeys([*target, *state]):
        if fits(name, origin.include) and not fits(name, origin.exclude):
            fates[name] = fate_of(target.get(name), state.get(name))
        elif name in state:
            fates[name] = Fate.skipped
    copied = Copy(origin, source, fates, {}, {})
    copied.values = {name: state[name] for name in copied.of(Fate.loaded)}
    for name in copied.of(Fate.shape):
        copied.misshapen[name] = f": {tuple(state[name].shape)} there, {tuple(target[name].shape)} here"
    return copied


def fate_of(wanted: Tensor | None, given: Tensor | None) -> Fate:
    if given is None:
        return Fate.missing
    if wanted is None:
        return Fate.unexpected
    return Fate.loaded if given.shape == wanted.shape else Fate.shape


def check_patterns(
    origin: Origin, target: Mapping[str, Tensor], state: Mapping[str, Tensor], kind: str
) -> None:
    """Raise HarkError for a pattern that does nothing: a silent one would leave the model as it was drawn."""
    there = (state, f"this {kind} checkpoint")
    for key, patterns, (names, whose) in (
        ("include", origin.include, there),
        ("include", origin.include, (target, "the model")),
        ("exclude", origin.exclude, there),
    ):
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = nearest(pattern, {f"{top(name)}.*" for name in names})
                raise HarkError(f"{origin}: {key} '{pattern}' fits no tensor of {whose}{hint}")


def fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def top(name: str) -> str:
    return name.split(".", 1)[0]


def renamed(origin: Origin, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Exchange the leading parts of names; of two that fit, the longer counts."""
    used: set[str] = set()
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        old = max((old for old in origin.rename if f"{name}.".startswith(f"{old}.")), key=len, default="")
        used.add(old)
        new = origin.rename[old] + name.removeprefix(old) if old else name
        if new in found:
            raise HarkError(f"{origin}: rename gives two tensors the name '{new}'")
        found[new] = value
    for old in origin.rename:
        if old not in used:
            raise HarkError(
                f"{origin}: rename '{old}' fits no tensor{nearest(old, {top(name) for name in state})}"
            )
    return found
