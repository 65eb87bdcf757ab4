"""Settings of a training's health: what is measured, when an alarm goes off, and what it does then."""

from dataclasses import dataclass, field, fields
from enum import Enum


class Action(Enum):
    """What an alarm does, beside being told."""

    ignore = "ignore"  # not even that
    warn = "warn"
    stop = "stop"  # save, and end with an exit code of its own
    rollback = "rollback"  # go back to the last healthy checkpoint, with a lower learning rate


@dataclass(kw_only=True)
class Actions:
    """Of each alarm; research/training/health/alarms.py says what they mean."""

    explosion: Action = Action.warn
    predictions: Action = Action.warn
    targets: Action = Action.warn
    teacher: Action = Action.warn
    stuck_teacher: Action = Action.warn
    frozen_codes: Action = Action.warn
    no_mask: Action = Action.warn
    frontend: Action = Action.warn
    rank: Action = Action.warn

    @classmethod
    def all(cls, action: Action) -> "Actions":
        return cls(**{item.name: action for item in fields(cls)})


@dataclass(kw_only=True)
class Limits:
    """When alarms go off. Ratios are to step 0."""

    loss: float = 2.0  # ratio, of a moving mean over ten steps to that of the first ten
    grad_norm: float = 20.0  # ratio, of the same to its lowest so far
    weight_norm: float = 1.5  # ratio of the norm of all trained weights to that of the measurement before
    activations: float = 100.0  # ratio of the deviation of what `embed` gives
    predictions: float = 0.2  # perplexity of the mean prediction, as a share of the targets'
    targets: float = 0.1  # ratio of the perplexity of codes; none under 1.5 codes, whatever they began with
    teacher: float = 0.02  # deviation of a teacher's output over frames, as a share of its root mean square
    mask_ratio: float = 0.01  # share of masked frames
    frontend: float = 0.05  # ratio of the deviation over frames, of frontend and `embed`
    rank: float = 0.05  # ratio of RankMe of the last layer; none under 1.5, whatever it began with


@dataclass(kw_only=True)
class Health:
    """Measures of a few utterances, and alarms: `health=on` warns, `off` measures nothing, `stop` and `rollback` act."""

    every: int = 50  # steps between measurements; 0: never
    seconds: float = 15.0  # of audio, at least, that they are taken on: the first batch's first utterances
    patience: int = (
        2  # measurements in a row that are out of bounds before an alarm goes off; an explosion needs one
    )
    actions: Actions = field(default_factory=Actions)
    limits: Limits = field(default_factory=Limits)
    lr_factor: float = 0.5  # on the learning rate, at every rollback
    rollbacks: int = 3  # at most; then the alarm stops the run

    def acts(self) -> bool:
        """Whether an alarm can change what is computed."""
        return self.every > 0 and Action.rollback in vars(self.actions).values()


PRESETS = {
    "on": Health(),
    "off": Health(every=0),
    "stop": Health(actions=Actions.all(Action.stop)),
    "rollback": Health(actions=Actions.all(Action.rollback)),
}
