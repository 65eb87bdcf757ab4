"""What plugins are that use features: probes, and the parts of a classifier. Shape letters as in `contracts`.

C dim of a representation   E dim of an embedding   K classes   L layers   U utterances, or labels of one
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from research.contracts import Loss, Plugin, Seq


@dataclass
class Features:
    """One representation of some utterances, with what is known about them."""

    frames: list[Tensor]  # per utterance (T, D), or (T, L, D) of several `layers`; fp32
    period: float  # seconds from one frame to the next
    segments: list[
        list[tuple[float, float, str]]
    ]  # per utterance (start s, end s, label), in the order of time
    labels: list[str] = field(default_factory=list)  # per utterance its class or its text; "" asks neither
    speakers: list[str] = field(default_factory=list)  # per utterance; "" is unknown
    layers: tuple[int, ...] = ()  # which ones are in `frames` at once (L); () if it is one representation


@dataclass
class Answers:
    """What a probe found in each of some utterances: sums, so that intervals can be drawn over utterances."""

    counts: Tensor  # (U, ...) one summand per utterance
    metrics: Callable[
        [Tensor], dict[str, Tensor]
    ]  # summed counts (R, ...) -> metric name -> (R,), the headline first
    chosen: dict[str, float] = field(
        default_factory=dict
    )  # settings that the dev utterances chose: {"lr": 0.01}
    weights: list[float] = field(default_factory=list)  # learned, of each of `Features.layers`; they sum to 1


class Probe(Plugin):
    """A question that is put to frozen features.

    What the attributes say holds for a class, or, where a Config decides it, for an instance that sets its own.
    """

    kind = "probe"

    @dataclass(kw_only=True)
    class Config(Plugin.Config):
        pass

    task: str = (
        "phones"  # asked with TASK_train.jsonl, TASK_valid.jsonl (or part of train) and TASK_test.jsonl
    )
    key: str = (
        ""  # of a manifest's line, that `labels` are read from; "": the probe asks `segments` (its phones)
    )
    falls: bool = False  # lower is better: the headline is an error
    baselines: tuple[str, ...] = ()  # frontends that it has to be compared with, beside the usual ones
    mixes: bool = False  # learns a weight for each layer when it is given several `Features.layers`

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        """Learn on `train`, choose settings on `dev`, and answer on `dev` and on `test`, at which it looks once.

        The same seed gives the same answers.
        """
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
