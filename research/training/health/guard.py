"""Health of one run: it measures every so often, tells alarms, and says what is to be done."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import torch

from research.contracts import Objective
from research.health import Action, Health
from research.nn.teacher import Teacher
from research.training.data import Fed
from research.training.health import record
from research.training.health.alarms import ALARMS, Alarm, Facts, Reading
from research.training.health.fingerprint import CODES, STUDENT, TEACHER, drift, fingerprints, groups
from research.training.health.look import Look, look
from research.training.health.panel import FILE, Panel, some
from research.training.health.state import Vitals
from research.training.step import Outcome, Student
from research.training.tracking import Tracker

ORDER = (Action.ignore, Action.warn, Action.stop, Action.rollback)  # what counts of several, the last first


class Guard:
    """All ranks make it and call its methods together; what rank 0 measures counts."""

    def __init__(self, cfg: Health, student: Student, path: Path, tracker: Tracker) -> None:
        assert isinstance(student.task, Objective)
        self.cfg, self.student, self.path, self.tracker = cfg, student, path, tracker
        self.ranks, self.task = student.ranks, student.task
        self.panel: Panel | None = None
        named = self.task.named_modules()
        self.teachers = {name: module for name, module in named if isinstance(module, Teacher)}

    def begin(self, vitals: Vitals, step: int, batches: Iterator[Fed]) -> Iterator[Fed]:
        """Open the panel, or make it of the batch that comes next; give all batches, that one too."""
        for teacher in self.teachers.values():
            teacher.followed = False
        if self.ranks.rank == 0:
            record.keep_until(self.path, step)
        found = self.agree({"panel": float((self.path / FILE).exists())})
        if step > 0 and found["panel"]:
            self.panel = Panel.load(self.path)
            return batches
        first = next(batches)
        if self.ranks.rank == 0:
            Panel(some(first.batch, round(self.cfg.seconds * self.task.frontend.sample_rate))).save(self.path)
        self.ranks.barrier()
        self.panel = Panel.load(self.path)
        if step == 0:
            self.start(vitals)
        return chain([first], batches)

    def start(self, vitals: Vitals) -> None:
        """Measure what the model is before its first step, and keep it."""
        assert self.panel is not None
        found = look(self.student, self.panel.batch, ())
        self.panel.begun = found.grams
        if self.ranks.rank == 0:
            self.panel.save(self.path)
        self.ranks.barrier()
        self.panel = Panel.load(self.path)
        prints = fingerprints(groups(self.task), self.ranks)
        found.values["weight_norm"] = prints[f"{STUDENT}.square"] ** 0.5
        vitals.start = self.agree(found.values) | prints
        vitals.weight_norm = vitals.start["weight_norm"]
        vitals.judge(0)

    def check(self, vitals: Vitals, step: int, outcome: Outcome) -> Action:
        """Book a step; measure and judge where it is due. Give what is to be done, the same on every rank."""
        vitals.told |= {name: True for name, teacher in self.teachers.items() if teacher.followed}
        if outcome.sound:
            vitals.see(outcome.loss, outcome.grad_norm)
        if step % self.cfg.every or vitals.steps == 0:
            return Action.ignore
        assert self.panel is not None
        found = look(self.student, self.panel.batch, self.panel.begun)
        found.values |= self.drifts(vitals, found)
        found.values = self.agree(found.values)
        self.tracker.log(step, "health", found.values)
        now = found.values | {
            "loss_first": vitals.first,
            "loss_mean": vitals.loss,
            "grad_norm_mean": vitals.grad_norm,
            "grad_norm_lowest": vitals.calm,
            "weight_norm_before": vitals.weight_norm or found.values["weight_norm"],
        }
        vitals.weight_norm = found.values["weight_norm"]
        facts = Facts(now, vitals.start, self.cfg.limits)
        action = max([self.judge(alarm, facts, vitals, step) for alarm in ALARMS], key=ORDER.index)
        vitals.judge(step)
        if action is Action.rollback and not (vitals.rollbacks < self.cfg.rollbacks and vitals.healthy >= 0):
            return Action.stop
        return action

    def drifts(self, vitals: Vitals, found: Look) -> dict[str, float]:
        """How far groups of weights are from step 0; of those only that are in use."""
        now = fingerprints(groups(self.task), self.ranks)
        values = {"weight_norm": now[f"{STUDENT}.square"] ** 0.5}
        for key in now:
            name, _, kind = key.rpartition(".")
            if kind == "sum" and key in vitals.start and in_use(name, vitals, found):
                group, _, part = name.partition("@")
                values["@".join([f"{group}_drift", *([part] * bool(part))])] = drift(name, now, vitals.start)
        return values

    def judge(self, alarm: Alarm, facts: Facts, vitals: Vitals, step: int) -> Action:
        """Turn an alarm on or off, and give what it wants done."""
        action: Action = getattr(self.cfg.actions, alarm.name)
        reading = None if action is Action.ignore else alarm.judge(facts)
        if reading is None:
            vitals.strikes.pop(alarm.name, None)
            if vitals.on.pop(alarm.name, None) and self.ranks.rank == 0:
                record.note(self.path, "off", step, alarm.name, measure=None, value=None, limit=None, says="")
                self.tracker.say(f"step {step}: health: {alarm.name} is over")
            return Action.ignore
        vitals.strikes[alarm.name] = vitals.strikes.get(alarm.name, 0) + 1
        if alarm.patient and vitals.strikes[alarm.name] < self.cfg.patience:
            return Action.ignore
        if alarm.name not in vitals.on:
            vitals.on[alarm.name] = line(alarm, reading)
            self.tell(alarm, reading, vitals.on[alarm.name], step)
        return action

    def tell(self, alarm: Alarm, reading: Reading, says: str, step: int) -> None:
        if self.ranks.rank == 0:
            numbers = {"measure": reading.what, "value": reading.value, "limit": reading.limit}
            record.note(self.path, "on", step, alarm.name, **numbers, says=says)
            self.tracker.alert(f"step {step}: health: {alarm.name}", says)

    def note_rollback(self, vitals: Vitals, step: int) -> None:
        """Write down that the run goes back to its last healthy checkpoint, and what the learning rate will be."""
        to, factor = vitals.healthy, vitals.lr_factor * self.cfg.lr_factor
        alarm, why = next(
            (name, says)
            for name, says in vitals.on.items()
            if getattr(self.cfg.actions, name) is Action.rollback
        )
        says = f"{why}; back to step {to}, with {factor:g} times the learning rate of the config"
        record.note(self.path, "rollback", step, alarm, to=to, lr_factor=factor, says=says)
        self.tracker.alert(f"step {step}: health: {alarm}", says)

    def agree(self, values: dict[str, float]) -> dict[str, float]:
        """Give rank 0's values to all: one collective."""
        if self.ranks.size == 1:
            return values
        mine = [value if self.ranks.rank == 0 else 0.0 for _, value in sorted(values.items())]
        sums = torch.tensor(mine, dtype=torch.float64).to(self.ranks.device)
        self.ranks.all_sum(sums)
        return dict(zip(sorted(values), sums.tolist(), strict=True))


def line(alarm: Alarm, reading: Reading) -> str:
    """`grad_norm_mean 812 above 40.6: training diverges; lower optimizer.lr, ...`."""
    side = "below" if reading.low else "above"
    return f"{reading.what} {reading.value:.3g} {side} {reading.limit:.3g}: {alarm.meaning}; {alarm.advice}"


def in_use(name: str, vitals: Vitals, found: Look) -> bool:
    """Whether a group of weights should have moved."""
    group, _, part = name.partition("@")
    return (
        group == STUDENT
        or (group == TEACHER and part in vitals.told)
        or (group == CODES and part in found.quantized)
    )
