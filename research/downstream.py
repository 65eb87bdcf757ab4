"""What plugins are that use features: probes, and the parts of a classifier. Shape letters as in `contracts`.

C dim of a representation   E dim of an embedding   K classes   U utterances, or labels of one
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from research.contracts import Loss, Plugin, Seq


@dataclass
class Features:
    """One representation of some utterances, with what is known about them."""

    frames: list[Tensor]  # per utterance (T, D), fp32
    period: float  # seconds from one frame to the next
    segments: list[
        list[tuple[float, float, str]]
    ]  # per utterance (start s, end s, label), in the order of time


@dataclass
class Answers:
    """What a probe found in each test utterance: sums, so that intervals can be drawn over utterances."""

    counts: Tensor  # (U, ...) one summand per test utterance
    metrics: Callable[
        [Tensor], dict[str, Tensor]
    ]  # summed counts (R, ...) -> metric name -> (R,), the headline first


class Probe(Plugin):
    """A question that is put to frozen features."""

    kind = "probe"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    def run(self, train: Features, test: Features, seed: int) -> Answers:
        """Learn on `train`, answer on `test`; the same seed gives the same answers."""
        raise NotImplementedError


class Aggregation(Plugin):
    """One representation of some layers. Made with the facts `dim_in` (D) and `layers`, how many there are."""

    kind = "aggregation"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    dim: int  # C

    def forward(self, layers: Sequence[Tensor]) -> Tensor:  # each (B, T, D) -> (B, T, C)
        raise NotImplementedError


class Head(Plugin):
    """What a task puts on a representation. Made with the fact `dim_in` (C)."""

    kind = "head"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    dim: int  # E

    def forward(self, x: Seq) -> Seq:
        """(B, T, C) -> (B, U, E): one vector per frame, or one for the utterance (U = 1)."""
        raise NotImplementedError


class Criterion(Plugin):
    """Output layer and loss of a supervised task. Made with the facts `dim_in` (E) and `classes` (K)."""

    kind = "criterion"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    frames: bool = (
        False  # wants a vector per frame and labels of another length (CTC), not one for each label
    )

    def forward(self, h: Seq, labels: Seq) -> Loss:  # (B, U, E), (B, U', 1)
        raise NotImplementedError

    def scores(self, h: Seq) -> Tensor:
        """(B, U, E) -> (B, U, K), or K + 1 where the last is the blank: the largest is the answer."""
        raise NotImplementedError
