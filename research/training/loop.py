"""`hark train`: from a config to a trained model, through as many interruptions as it takes."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict
from pathlib import Path

from research import runs
from research.compose import Composed
from research.config import Config, Streams, Training
from research.contracts import Objective, Task
from research.data.loader import BAD
from research.engine.checkpoint import Checkpoints
from research.engine.compiled import compile_blocks
from research.engine.gangs import Ranks
from research.engine.parallel import place, wrap
from research.engine.sharding import refill
from research.engine.weights import steps
from research.errors import HarkError, nearest
from research.health import Action
from research.interop.initialise import initialise
from research.interop.origin import origins
from research.model import legal
from research.registry import build
from research.training import optimizer as optim
from research.training.data import Fed, Planned, Source
from research.training.given import NOTHING, Given
from research.training.health import record
from research.training.health.guard import Guard
from research.training.health.rollback import replay
from research.training.memory import peak_mb
from research.training.probing import Prober, Probes
from research.training.progress import Progress
from research.training.session import claim, processes
from research.training.signals import ALARMED, PRUNED, StopFlag
from research.training.stats import StatBag, Window
from research.training.step import Outcome, Student, train_step
from research.training.tracking import Tracker
from research.training.validation import validate

Pruner = Callable[[int, dict[str, float]], bool]  # (step, what was validated) -> whether that is enough


def train(
    composed: Composed[Config], pruner: Pruner | None = None, prober: Callable[[Path], Prober] | None = None
) -> int:
    """Train the run that a config is, or go on with it.

    `pruner` is asked on rank 0 after each validation; `prober` makes, of the run's folder, what `watch` asks for.
    Exit code 0, 128 + the signal that stopped it, PRUNED when `pruner` did, or ALARMED when an alarm did.
    """
    cfg = composed.config
    if cfg.watch.every and prober is None:
        raise HarkError("watch.every: this training has no prober; call research.launch.watch.train")
    objective = objective_of(cfg)  # refuses an illegal combination before anything is touched
    origins(cfg.init)
    with processes(cfg.run.device) as (ranks, flag), claim(composed, ranks) as path:
        source = open_source(cfg, ranks, Given.of(objective))
        if not steps(path / "checkpoints"):
            initialise(objective, cfg, path if ranks.rank == 0 else None)
        made = prober(path) if prober and cfg.watch.every else None
        run = Run(cfg, path, ranks, flag, task=objective, source=source, pruner=pruner, prober=made)
        if cfg.health.every:
            run.guard = Guard(cfg.health, run.student, path, run.tracker)
        return run.go()


def open_source(cfg: Training, ranks: Ranks, given: Given = NOTHING) -> Source:
    """Open the data of a pretraining, and what lines give beside audio, all ranks together."""
    if isinstance(cfg.data, Streams):
        from research.training.streamed import Streamed  # noqa: PLC0415  most runs read manifests

        return Streamed(cfg, ranks, given)
    return Planned(cfg, ranks, given)


def objective_of(cfg: Config) -> Objective:
    objective = legal(cfg)
    if cfg.train.compile:
        compile_blocks(objective)
    return objective


class Run:
    """One process of one run: trains any task on what any source feeds it."""

    def __init__(
        self,
        cfg: Training,
        path: Path,
        ranks: Ranks,
        flag: StopFlag,
        *,
        task: Task,
        source: Source,
        pruner: Pruner | None = None,
        prober: Prober | None = None,
    ) -> None:
        self.cfg, self.path, self.ranks, self.flag, self.source = cfg, path, ranks, flag, source
        self.pruner, self.pruned = pruner if ranks.rank == 0 else None, False
        keep = cfg.checkpoint
        self.checkpoints = Checkpoints(
            path / "checkpoints", ranks, keep_last=keep.keep_last, keep_best=keep.keep_best
        )
        self.progress = Progress()
        if state := self.checkpoints.load():
            task.load_state_dict(state.model)
            self.go_on(Progress.of(state.trainer))
        task = place(task, ranks, cfg.train.parallel)
        adamw = optim.adamw(task, cfg.optimizer)
        if state:
            optim.restore(adamw, state.optimizer)
        task.enter(self.progress.step)
        augment = build(cfg.augmentation).to(ranks.device)
        factor = self.progress.vitals.lr_factor
        self.student = Student(task, wrap(task, ranks), augment, adamw, ranks, cfg, factor)
        self.guard: Guard | None = None
        self.tracker = Tracker(cfg, path, self.progress.step, writes=ranks.rank == 0)
        self.probes = Probes(prober, path, self.checkpoints, ranks, self.tracker)
        self.window = Window(StatBag(ranks.device))
        self.valid_loss: float | None = (
            None  # what `checkpoint.best` names, of this very step when it was validated
        )

    def go(self) -> int:
        """Step until the end or a signal, and leave a checkpoint there."""
        code = 1
        if self.ranks.rank == 0 and self.progress.step < self.cfg.train.steps:
            (self.path / "done.json").unlink(missing_ok=True)  # its last checkpoints are gone
        try:
            self.tracker.say(f"{self.path}: step {self.progress.step} of {self.cfg.train.steps}")
            self.tracker.say(self.source.summary())
            self.probes.ask(self.progress.step)
            code = self.steps()
            self.checkpoints.close()  # with the other ranks; after an error they are elsewhere
            if code == 0 and self.ranks.rank == 0:
                runs.finish(self.path, self.progress.step)
        finally:
            self.tracker.close(code)
        return code

    def steps(self) -> int:
        cfg, progress = self.cfg, self.progress
        batches = self.batches()
        self.student.task.train()
        self.window.start()
        while progress.step < cfg.train.steps:
            if progress.step in self.student.task.stages:
                self.enter()
            stop = self.pruned or self.flag.signal is not None
            outcome = train_step(self.student, batches, progress.step, self.window.bag, stop=stop)
            progress.step += 1
            self.valid_loss = None
            self.count(outcome)
            last = progress.step == cfg.train.steps
            if last or progress.step % cfg.train.log_every == 0:
                self.log()
            if last or progress.step % cfg.train.validate_every == 0:
                self.validate()
            action = self.check(outcome)
            if action is Action.rollback:
                batches = self.roll_back()
                progress = self.progress
                continue
            stopped = action is Action.stop and not last
            due = self.probes.due(progress.step)
            if last or outcome.stop or stopped or due or progress.step % cfg.checkpoint.every == 0:
                self.save()
            if due:
                self.probes.ask(progress.step)
                self.window.pause()
            if stopped:
                self.tracker.say(
                    f"stopped by an alarm after step {progress.step}: see {self.path / record.FILE}"
                )
                return ALARMED
            if outcome.stop and not last:
                return self.interrupted()
        return 0

    def batches(self) -> Iterator[Fed]:
        """Read from where the run is."""
        progress, guard = self.progress, self.guard
        if guard is not None and guard.cfg.acts() and progress.step == 0:
            self.save()  # something to go back to
        self.reading = self.source.train(progress.step, progress.data)
        return self.reading if guard is None else guard.begin(progress.vitals, progress.step, self.reading)

    def interrupted(self) -> int:
        if self.pruned:
            self.tracker.say(f"pruned after step {self.progress.step}: others were better")
            return PRUNED
        self.tracker.say(f"stopped after step {self.progress.step}; the same command goes on")
        return 128 + (self.flag.signal or 0)

    def go_on(self, progress: Progress) -> None:
        """Be as far as a checkpoint is."""
        replay(self.path, progress)
        self.progress = progress
        self.source.heard.clear()
        self.source.heard.update(progress.heard if self.ranks.rank == 0 else {})

    def check(self, outcome: Outcome) -> Action:
        """Look after the run's health; give what is to be done."""
        if self.guard is None:
            return Action.ignore
        action = self.guard.check(self.progress.vitals, self.progress.step, outcome)
        if self.progress.step % self.guard.cfg.every == 0:
            self.window.pause()
        return action

    def roll_back(self) -> Iterator[Fed]:
        """Go back to the last healthy checkpoint and lower the learning rate; give the batches from there on."""
        assert self.guard is not None
        left, student = self.progress, self.student
        state = self.checkpoints.back_to(left.vitals.healthy)
        if self.ranks.rank == 0:
            self.guard.note_rollback(left.vitals, left.step)
        self.ranks.barrier()
        if isinstance(self.reading, Generator):
            self.reading.close()
        refill(student.task, state.model)
        optim.restore(student.optimizer, state.optimizer)
        self.go_on(Progress.of(state.trainer))
        self.progress.wall, self.progress.audio = left.wall, left.audio  # it was spent
        student.lr_factor = self.progress.vitals.lr_factor
        self.tracker.back_to(self.progress.step)
        self.probes.undo(self.progress.step)
        self.window = Window(StatBag(self.ranks.device))
        if student.task.stages:
            self.enter()
        return self.batches()

    def enter(self) -> None:
        """Begin a stage: the model is wrapped again, for DDP knows no parameters that come or go."""
        self.student.task.enter(self.progress.step)
        self.student.model = wrap(self.student.task, self.ranks)

    def count(self, outcome: Outcome) -> None:
        """Book a step; HarkError after too many in a row that were not finite."""
        progress, limit = self.progress, self.cfg.train.max_skipped
        progress.wall += self.window.spend(outcome.seconds)
        progress.audio += outcome.seconds
        if outcome.sound:
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self.tracker.say(f"step {progress.step}: loss or gradient is not finite, nothing moved")
        if progress.skipped_in_a_row >= limit:
            raise HarkError(
                f"{self.path}: {limit} steps in a row had a non-finite loss or gradient, up to step {progress.step}; "
                "lower optimizer.lr, or look at the data (train.max_skipped sets the limit)"
            )

    def log(self) -> None:
        values = self.window.bag.pop(self.ranks.all_sum)
        extra = {"audio_s_per_s": self.window.speed(), "peak_mb": peak_mb(self.ranks.device)}
        heard = self.source.counts()
        extra |= {"skipped_steps": self.progress.skipped, "bad_utterances": sum(heard[name] for name in BAD)}
        extra |= {f"{name}_utterances": heard[name] for name in ("converted", "silent")}
        if values:
            self.tracker.log(self.progress.step, "train", values | extra)
        self.window.start()

    def validate(self) -> None:
        if self.cfg.data.valid:
            values = validate(self.student, self.source.valid())
            best = self.cfg.checkpoint.best
            if best not in values:
                known = ", ".join(values)
                raise HarkError(
                    f"checkpoint.best={best}: validation gives no such metric{nearest(best, values)} (there are: {known})"
                )
            self.valid_loss = values[best]
            self.tracker.log(self.progress.step, "valid", values)
            self.pruned = self.pruner is not None and self.pruner(self.progress.step, values)
            self.window.start()

    def save(self) -> None:
        progress, student = self.progress, self.student
        progress.data, progress.heard = self.source.state(), self.source.counts()
        progress.vitals.save(progress.step)
        healthy = {progress.vitals.healthy} if self.guard is not None and self.guard.cfg.acts() else set()
        self.checkpoints.kept = frozenset(healthy | self.probes.needed())
        task, adamw = student.task.state_dict(), optim.state_of(student.optimizer)
        self.checkpoints.save(progress.step, task, adamw, asdict(progress), self.valid_loss)
        if self.ranks.rank == 0:
            self.probes.book(progress.step)
            self.tracker.cost(progress.wall, progress.audio, self.ranks.size)
            self.tracker.data(self.source.facts(), progress.heard)
            self.tracker.follow()
