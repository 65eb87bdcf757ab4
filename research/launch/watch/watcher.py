"""What `watch` asks for: probes of every checkpoint that is due, here or as jobs."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from research import registry
from research.compose import Composed
from research.config import Config, Where
from research.engine.weights import steps
from research.errors import HarkError, nearest
from research.launch.sweep.ending import told
from research.launch.sweep.job import Leave
from research.launch.sweep.order import Order
from research.launch.watch import notes
from research.launch.watch.jobs import Jobs, waiting
from research.launch.watch.put import forget, parse, put, words_of


def check(config: Config) -> None:
    """HarkError for probes that cannot be put, before anything is trained."""
    watch = config.watch
    if watch.every < 0:
        raise HarkError(f"watch.every={watch.every}: steps between probes; type 0 for none")
    if not watch.every:
        return
    known = registry.names("probe")
    for name in watch.probes:
        if name not in known:
            raise HarkError(
                f"watch.probes: no probe is called '{name}'{nearest(name, known)} (there are: {', '.join(known)})"
            )
    if watch.seeds < 2 or watch.sentences < 1:
        raise HarkError(f"watch.seeds={watch.seeds}, watch.sentences={watch.sentences}: at least 2 and 1")
    parse(Path(), words_of(watch, watch.every))
    if watch.where is Where.job and config.health.acts():
        raise HarkError(
            "watch.where=job: a rollback would take back what a job is probing; type watch.where=loop, or another health"
        )


@dataclass(frozen=True)
class Watcher:
    """A prober of the loop: it asks checkpoints, so that what is trained and ranks that share it notice nothing."""

    run: Path
    composed: Composed[Config]
    order: Order | None = None

    def due(self, step: int) -> bool:
        return self.composed.config.watch.due(step)

    def ask(self) -> None:
        try:
            wanted = [step for step in sorted(self.needed()) if self.due(step)]
            if self.composed.config.watch.where is Where.loop:
                for step in wanted:
                    self.put(step)
            elif wanted:
                Jobs(self.run, self.composed, self.order).ask(wanted)
        except Exception as error:  # noqa: BLE001  whatever it is, the training goes on
            print(f"watch: {told(error)}; the training goes on, and the next probe tries again", flush=True)

    def needed(self) -> set[int]:
        """Give steps that have a checkpoint."""
        if self.composed.config.watch.where is Where.job:
            return waiting(self.run, self.composed.config)
        asked = notes.by_step(self.run)
        return {
            step
            for step in steps(self.run / "checkpoints")
            if self.due(step)
            and notes.values_of(asked.get(step, [])) is None
            and not notes.given_up(asked.get(step, []), 1)
        }

    def put(self, step: int) -> None:
        """Probe a step here and now; a signal breaks it off, and the next start does it again."""
        try:
            with Leave() as flag:
                if flag.signal is not None:
                    return
                notes.note(self.run, "began", step, step=step, host=socket.gethostname(), pid=os.getpid())
                values = put(self.run, words_of(self.composed.config.watch, step))
        except KeyboardInterrupt:
            self.ended(step, "stopped")
        except Exception as error:  # noqa: BLE001  whatever it is, the training goes on
            print(f"step {step}: not probed ({told(error)}); the training goes on", flush=True)
            self.ended(step, "failed", told(error))
        else:
            notes.note(self.run, "probed", step, values=values)
            self.ended(step, "done")

    def ended(self, step: int, outcome: str, error: str = "") -> None:
        notes.note(self.run, "ended", step, outcome=outcome, step=step, error=error, again=False)

    def found(self) -> dict[int, notes.Numbers]:
        return notes.found(self.run)

    def undo(self, step: int) -> None:
        """Forget the numbers and the lines of later steps: they are probed when they were done again."""
        later = [other for other in notes.by_step(self.run) if other > step]
        for other in later:
            notes.note(self.run, "undone", other)
        forget(self.run, later)
