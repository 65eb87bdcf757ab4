"""`hark train`: from a config to a trained model, through as many interruptions as it takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from research import runs
from research.compose import Composed
from research.config import Config, Streams, Training
from research.contracts import Objective, Task
from research.data.loader import BAD
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import Ranks, start
from research.engine.parallel import place, wrap
from research.engine.weights import steps
from research.errors import HarkError, nearest
from research.interop.initialise import initialise
from research.interop.origin import origins
from research.model import assemble, check
from research.registry import build
from research.training import optimizer as optim
from research.training.data import Planned, Source, State
from research.training.given import NOTHING, Given
from research.training.memory import keep_freed_memory, peak_mb
from research.training.signals import PRUNED, StopFlag
from research.training.stats import StatBag
from research.training.step import Outcome, Student, train_step
from research.training.tracking import Tracker
from research.training.validation import validate

Watch = Callable[[int, dict[str, float]], bool]  # (step, what was validated) -> whether that is enough


def train(composed: Composed[Config], watch: Watch | None = None) -> int:
    """Train the run that a config is, or go on with it. `watch` is asked on rank 0 after each validation.

    Exit code 0, 128 + the signal that stopped it, or PRUNED when `watch` did.
    """
    cfg = composed.config
    given = Given.of(check(cfg))  # refuse an illegal combination before anything is touched
    origins(cfg.init)
    with processes(cfg.run.device) as (ranks, flag), claim(composed, ranks) as path:
        source = open_source(cfg, ranks, given)
        objective = objective_of(cfg)
        if not steps(path / "checkpoints"):
            initialise(objective, cfg, path if ranks.rank == 0 else None)
        return Run(cfg, path, ranks, flag, task=objective, source=source, watch=watch).go()


def open_source(cfg: Training, ranks: Ranks, given: Given = NOTHING) -> Source:
    """Open the data of a pretraining, and what lines give beside audio, all ranks together."""
    if isinstance(cfg.data, Streams):
        from research.training.streamed import Streamed  # noqa: PLC0415  most runs read manifests

        return Streamed(cfg, ranks)
    return Planned(cfg, ranks, given)


@contextmanager
def processes(device: str) -> Iterator[tuple[Ranks, StopFlag]]:
    """Join the ranks of this command and listen for signals; leave both at the end."""
    keep_freed_memory()
    ranks = start(device)
    try:
        with StopFlag() as flag:
            yield ranks, flag
    finally:
        ranks.close()


@contextmanager
def claim(composed: Composed[Any], ranks: Ranks) -> Iterator[Path]:
    """Make or find the folder of a run, and hold it."""
    path = runs.folder(composed.config)
    with ExitStack() as held:
        if ranks.rank == 0:
            runs.create(composed.config, composed.choices, composed.overrides)
            held.enter_context(runs.only_one(path))
        ranks.barrier()
        yield path


def objective_of(cfg: Config) -> Objective:
    objective = assemble(cfg)
    if cfg.train.compile:
        objective.encoder.compile(dynamic=True)
    return objective


@dataclass
class Progress:
    """How far a run is: all of its state that is not in the model or the optimizer."""

    step: int = 0
    skipped: int = 0  # steps with a non-finite loss or gradient
    skipped_in_a_row: int = 0
    wall: float = 0.0  # seconds, over all restarts
    audio: float = 0.0  # seconds of speech seen
    data: State = field(default_factory=list)  # where reading goes on
    heard: dict[str, int] = field(default_factory=dict)  # utterances, of data.loader.COUNTED


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
        watch: Watch | None = None,
    ) -> None:
        self.cfg, self.path, self.ranks, self.flag, self.source = cfg, path, ranks, flag, source
        self.watch, self.pruned = watch if ranks.rank == 0 else None, False
        keep = cfg.checkpoint
        self.checkpoints = Checkpoints(
            path / "checkpoints", ranks, keep_last=keep.keep_last, keep_best=keep.keep_best
        )
        self.progress = Progress()
        if state := self.checkpoints.load():
            task.load_state_dict(state.model)
            self.progress = Progress(**state.trainer)
            self.source.heard.update(self.progress.heard if ranks.rank == 0 else {})
        task = place(task, ranks, cfg.train.parallel)
        adamw = optim.adamw(task, cfg.optimizer)
        if state:
            optim.restore(adamw, state.optimizer)
        task.enter(self.progress.step)
        augment = build(cfg.augmentation).to(ranks.device)
        self.student = Student(task, wrap(task, ranks), augment, adamw, ranks, cfg)
        self.tracker = Tracker(cfg, path, self.progress.step, writes=ranks.rank == 0)
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
            code = self.steps()
            self.checkpoints.close()  # with the other ranks; after an error they are elsewhere
            if code == 0 and self.ranks.rank == 0:
                runs.finish(self.path, self.progress.step)
        finally:
            self.tracker.close(code)
        return code

    def steps(self) -> int:
        cfg, progress = self.cfg, self.progress
        batches = self.source.train(progress.step, progress.data)
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
            if last or outcome.stop or progress.step % cfg.checkpoint.every == 0:
                self.save()
            if outcome.stop and not last:
                if self.pruned:
                    self.tracker.say(f"pruned after step {progress.step}: others were better")
                    return PRUNED
                number = self.flag.signal or 0
                self.tracker.say(f"stopped after step {progress.step}; the same command goes on")
                return 128 + number
        return 0

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
            self.pruned = self.watch is not None and self.watch(self.progress.step, values)
            self.window.start()

    def save(self) -> None:
        progress, student = self.progress, self.student
        progress.data, progress.heard = self.source.state(), self.source.counts()
        task, adamw = student.task.state_dict(), optim.state_of(student.optimizer)
        self.checkpoints.save(progress.step, task, adamw, asdict(progress), self.valid_loss)
        if self.ranks.rank == 0:
            self.tracker.cost(progress.wall, progress.audio, self.ranks.size)
            self.tracker.data(self.source.facts(), progress.heard)
            self.tracker.follow()


class Window:
    """What was seen since the last time that numbers were logged."""

    def __init__(self, bag: StatBag) -> None:
        self.bag = bag
        self.start()

    def start(self) -> None:
        self.mark, self.wall, self.audio = time.monotonic(), 0.0, 0.0

    def spend(self, audio: float) -> float:
        """Add a step's audio; give the wall seconds since the step before."""
        now = time.monotonic()
        passed, self.mark = now - self.mark, now
        self.wall += passed
        self.audio += audio
        return passed

    def speed(self) -> float:
        return self.audio / max(self.wall, 1e-9)
