"""What alarms remember, as part of a run's progress: numbers, so that a run that resumes goes on as it would have."""

from dataclasses import dataclass, field

KEEP, FIRST = 0.9, 10  # share of a moving mean that stays at a step; steps that it begins with


@dataclass
class Vitals:
    start: dict[str, float] = field(default_factory=dict)  # what was measured at step 0
    first: float = 0.0  # mean training loss of the first ten steps
    loss: float = 0.0  # moving means over about ten steps
    grad_norm: float = 0.0
    calm: float = 0.0  # the lowest `grad_norm` so far
    steps: int = 0  # that these have seen
    told: dict[str, bool] = field(default_factory=dict)  # teachers that were told to follow
    strikes: dict[str, int] = field(default_factory=dict)  # measurements in a row at which an alarm was right
    on: dict[str, str] = field(default_factory=dict)  # alarms that are on, with what they say
    weight_norm: float = 0.0  # at the last measurement
    clean: int = -1  # step of the last measurement that no alarm had anything against
    saved: int = -1  # newest checkpoint
    healthy: int = -1  # newest one that was saved at such a measurement, or before it; -1: none
    rollbacks: int = 0
    lr_factor: float = 1.0  # on the learning rate, for all that were rolled back

    def save(self, step: int) -> None:
        """Book a checkpoint."""
        self.saved = step
        if self.clean == step:
            self.healthy = step

    def judge(self, step: int) -> None:
        """Book a measurement, once the alarms are known."""
        if not self.on and not self.strikes:
            self.clean, self.healthy = step, self.saved

    def go_back(self, lr_factor: float) -> None:
        """Book a rollback to the checkpoint that these numbers are of."""
        self.rollbacks += 1
        self.lr_factor, self.healthy = lr_factor, self.saved

    def see(self, loss: float, grad_norm: float) -> None:
        """Book a step whose loss and gradient were finite."""
        self.steps += 1
        share = max(1 / self.steps, 1 - KEEP)  # plain means as long as there are so few
        self.loss += share * (loss - self.loss)
        self.grad_norm += share * (grad_norm - self.grad_norm)
        if self.steps <= FIRST:
            self.first, self.calm = self.loss, self.grad_norm
        self.calm = min(self.calm, self.grad_norm)
