"""Where numbers go: metrics.jsonl (the source of truth), W&B, the terminal."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from research import runs
from research.config import Training
from research.files import write
from research.training.follower import Follower, check


class Tracker:
    """Write what a run measures. Only rank 0 has one that writes; the others' is silent."""

    def __init__(self, cfg: Training, path: Path, step: int, *, writes: bool) -> None:
        self.cfg, self.path, self.writes = cfg, path, writes
        check(cfg.log, path.name)
        if not writes:
            return
        keep_until(path / "metrics.jsonl", step)
        self.file = open(path / "metrics.jsonl", "a", buffering=1)  # noqa: SIM115  closed by close()
        self.follower = Follower(path, cfg.log, self.say)
        self.console = Console()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(path.name, total=cfg.train.steps, completed=step, last="")
        self.progress.start()

    def log(self, step: int, split: str, values: dict[str, float]) -> None:
        """Record the numbers of one split after `step` steps, and show the first ones."""
        if not self.writes:
            return
        self.record(step, split, values)
        if self.follower.live:
            self.follower.follow(step - 1)  # this step may have more to log
        shown = f"{split} loss {values['loss']:.3f}"
        if "acc" in values:
            shown += f"  acc {values['acc']:.3f}"
        if not self.console.is_terminal:
            self.say(
                f"step {step}/{self.cfg.train.steps}  {shown}  {values.get('audio_s_per_s', 0):.0f} audio-s/s"
            )
        elif split == "train":
            self.progress.update(self.task, completed=step, last=shown)
        else:
            self.say(f"step {step}  {shown}")

    def record(self, step: int, split: str, values: dict[str, float]) -> None:
        self.file.write(line(step, split, values) + "\n")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave the terminal to somebody else."""
        self.progress.stop()
        try:
            yield
        finally:
            self.progress.start()

    def follow(self) -> None:
        """Bring W&B up to the newest checkpoint."""
        if self.writes:
            self.follower.follow()

    def cost(self, wall: float, audio: float, devices: int) -> None:
        """Record what the run has used so far, over all its restarts; times in seconds."""
        hours = {"wall_s": wall, "device_h": wall * devices / 3600, "audio_h": audio / 3600}
        write(self.path / "cost.json", json.dumps({key: round(value, 4) for key, value in hours.items()}))

    def data(self, facts: dict[str, Any], heard: dict[str, int]) -> None:
        """Record what there is to hear, and how many utterances were heard so far or could not be."""
        write(self.path / "data.json", json.dumps(facts | {"heard": heard}, indent=1))

    def say(self, what: str | Table) -> None:
        """Print a line or a table above the progress bar."""
        if self.writes:
            self.console.print(what, highlight=False, soft_wrap=True)

    def alert(self, title: str, text: str) -> None:
        """Tell an alarm, W&B's users too."""
        if self.writes:
            self.say(f"{title}: {text}")
            self.follower.alert(title, text)

    def back_to(self, step: int) -> None:
        """Forget what was logged after a step: from there on all is done again."""
        if self.writes:
            self.file.close()
            keep_until(self.path / "metrics.jsonl", step)
            self.file = open(self.path / "metrics.jsonl", "a", buffering=1)  # noqa: SIM115  closed by close()
            self.follower.reread()
            self.progress.update(self.task, completed=step)

    def close(self, code: int) -> None:
        if not self.writes:
            return
        self.progress.stop()
        self.file.close()
        self.follower.close(code)


def line(step: int, split: str, values: dict[str, float]) -> str:
    """One line of metrics.jsonl."""
    return json.dumps({"schema": runs.SCHEMA, "step": step, "split": split, "time": time.time(), **values})


def keep_until(file: Path, step: int) -> None:
    """Drop what a run logged after the checkpoint that it resumes from: those steps are done again."""
    if file.exists():
        kept = [json.dumps(record) + "\n" for record in runs.read_jsonl(file) if record["step"] <= step]
        write(file, "".join(kept))
