"""W&B follows metrics.jsonl: one W&B run for a run folder, its steps rising over all starts, none lost, none twice.

What W&B has is read from its own files, or, online, asked of its server; so after a kill, a signal or a requeue the
next start goes on where it stopped. Offline, records wait until a checkpoint of that step or a later one is on the
disk: no restart does them again. Online a step goes as soon as the next one is logged; if it is done again after a
kill, the numbers are the same and the server has them.

Probes on the way may end when later steps are logged: what they found goes with the row that comes next, and is drawn
over its own `probe/step`. The summary's `probe/steps` says which are there.
"""

import os
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from itertools import groupby
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from omegaconf import OmegaConf

from research import runs
from research.config import Log
from research.engine.weights import steps
from research.errors import HarkError, nearest
from research.training.rows import PROBE, PROBES, probed, row
from research.training.sent import OFFLINE, ONLINE, Sent, begun, files, mark, sent, synced

MODES = ("offline", "online", "disabled")
FORBIDDEN = ":;,#?/\\%'\""  # in W&B's ids
LONGEST_ID, LONGEST_TAG = 128, 64  # characters
PATIENCE = 30.0  # s that a start or an end may wait for the server


def check(log: Log, name: str) -> None:
    """HarkError when W&B would refuse these settings, or a run of this name."""
    if log.wandb not in MODES:
        raise HarkError(f"log.wandb={log.wandb}: type one of {', '.join(MODES)}{nearest(log.wandb, MODES)}")
    if log.wandb == "disabled":
        return
    if bad := sorted(set(name) & set(FORBIDDEN)):
        raise HarkError(
            f"{name}: W&B takes no {' '.join(bad)} in the name of a run; type another run.name, or log.wandb=disabled"
        )
    if len(name) > LONGEST_ID:
        raise HarkError(
            f"{name}: W&B takes {LONGEST_ID} characters in the name of a run; type a shorter run.name"
        )


class Follower:
    """Brings one W&B run up to a run folder. Trouble with W&B is told in one line and stops nothing."""

    def __init__(self, path: Path, log: Log, say: Callable[[str], None]) -> None:
        self.path, self.cfg, self.say = path, log, say
        self.live = log.wandb == "online"
        self.off = log.wandb == "disabled"  # or W&B has failed
        self.restarts = 1  # of W&B's process, that a signal to all processes of a job ends
        self.run: Any = None
        self.held = ExitStack()
        self.sent: Sent | None = None
        self.metrics: TextIO | None = None
        self.ahead: list[dict[str, Any]] = []  # records that were read and wait for a checkpoint
        self.late: list[dict[str, Any]] = []  # of probes, that wait for a row

    def follow(self, step: float | None = None) -> None:
        """Send what is new up to `step`, or to the newest checkpoint, and what probes found."""
        self.attempt(lambda: self.send(self.saved() if step is None else step))

    def close(self, code: int) -> None:
        """Send what is left, with log.artifact the trained model too, and end W&B's process."""
        self.attempt(lambda: self.finish(self.saved(), code))
        self.forget()

    def saved(self) -> float:
        """Step up to which no restart does anything again."""
        return inf if runs.finished(self.path) else max(steps(self.path / "checkpoints"), default=-1)

    def alert(self, title: str, text: str) -> None:
        """Tell W&B's users of something, once W&B runs."""
        self.attempt(lambda: None if self.run is None else self.run.alert(title=title, text=text))

    def attempt(self, what: Callable[[], None]) -> None:
        while not self.off:
            try:
                what()
            except HarkError:  # another process sends to this run; what it leaves is sent later
                self.forget()
            except Exception as error:  # noqa: BLE001  whatever it is, the training goes on
                self.leave(error)
                continue
            break

    def leave(self, error: Exception) -> None:
        """Drop W&B's process; one that died at work is started anew, once."""
        self.off = self.run is None or self.restarts == 0 or isinstance(error, TimeoutError)
        self.restarts -= 1
        self.forget()
        with suppress(Exception):
            import wandb  # noqa: PLC0415

            wandb.teardown(1)  # else its death is told once more when Python ends
        if self.off:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.say(
                f"W&B cannot be written to ({reason}); all goes on without it, and the next start, or "
                f"`hark sync {self.path}`, makes up for it"
            )

    def forget(self) -> None:
        """Let go of W&B and of what was read: a next `send` finds out anew what there is to do."""
        self.run = self.sent = None
        self.held.close()
        self.reread()

    def reread(self) -> None:
        """Read metrics.jsonl from its beginning the next time; what was sent is not sent again."""
        self.ahead, self.late = [], []
        if self.metrics is not None:
            self.metrics.close()
            self.metrics = None

    def send(self, step: float) -> None:
        if self.sent is None:
            self.lock()  # first: what W&B has may not grow while we send more
            self.sent = self.known()
        known, found = self.sent, probed(self.path)
        new = {key: value for key, value in found.items() if known.summary.get(key) != value}
        ready = sorted(self.read(step), key=itemgetter("step"))
        self.late += [record for record in ready if record["split"] == PROBE and record["step"] <= known.step]
        self.late = [record for record in self.late if record["step"] not in known.probes]
        ready = [record for record in ready if record["step"] > known.step]
        over = step == inf  # no other rows will come
        if (ready or new or (self.late and over)) and self.run is None:
            self.start()
        for number, records in groupby(ready, key=itemgetter("step")):
            if number > known.step:  # which the server may just have told
                self.log(number, list(records))
        while self.late and over:
            self.log(known.step + 1, [])
        if known.probes != set(known.summary.get(PROBES, ())):
            new[PROBES] = sorted(known.probes)
        if new:
            self.run.summary.update(new)
            known.summary |= new

    def log(self, number: int, records: list[dict[str, Any]]) -> None:
        """Log one row; one that no probe is of takes a late one along."""
        assert self.sent is not None
        if self.late and not any(record["split"] == PROBE for record in records):
            records.append(self.late.pop(0))
        values = row(records)
        if f"{PROBE}/step" in values:
            self.run.define_metric(f"{PROBE}/*", step_metric=f"{PROBE}/step")
            self.sent.probes.add(values[f"{PROBE}/step"])
        self.run.log(values, step=number)
        self.sent.step = number

    def known(self) -> Sent:
        """What W&B has; online nothing is, while files are here that may not have reached the server: it will tell."""
        here = files(self.path, kind=ONLINE) + files(self.path, kind=OFFLINE)
        return Sent() if self.live and not all(map(synced, here)) else sent(self.path)

    def read(self, step: float) -> list[dict[str, Any]]:
        """Give the records up to `step` that were not given yet."""
        if self.metrics is None and (self.path / "metrics.jsonl").exists():
            self.metrics = open(self.path / "metrics.jsonl")  # noqa: SIM115  closed by forget()
        lines = "".join(line for line in self.metrics or [] if line.endswith("\n"))
        self.ahead += [record for record in runs.objects(lines.encode()) if record is not None]
        ready = [record for record in self.ahead if record["step"] <= step]
        self.ahead = [record for record in self.ahead if record["step"] > step]
        return ready

    def lock(self) -> None:
        """Be alone in W&B's folder until `forget`. HarkError when another process is there."""
        folder = self.path / "wandb"
        folder.mkdir(exist_ok=True)
        self.held.enter_context(runs.only_one(folder))

    def start(self) -> None:
        """Start W&B's process."""
        import wandb  # noqa: PLC0415  slow to import

        forget_others()
        config: Any = OmegaConf.to_container(OmegaConf.load(self.path / "config.yaml"))
        self.run = wandb.init(
            project=self.cfg.project,
            group=self.cfg.group or None,
            job_type="train" if "objective" in config["plugins"] else "classify",
            tags=[tag if len(tag) <= LONGEST_TAG else tag[: LONGEST_TAG - 1] + "…" for tag in self.cfg.tags],
            name=self.path.name,
            id=self.path.name,
            resume="allow",
            mode="online" if self.live else "offline",
            dir=str(self.path),
            config=config,
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=PATIENCE,
                finish_timeout=PATIENCE,
                finish_timeout_raises=True,
            ),
        )
        if self.live and self.sent is not None:
            self.sent.step = self.run.starting_step - 1
            self.sent.probes |= set(self.run.summary.get(PROBES) or ())

    def finish(self, step: float, code: int) -> None:
        self.send(step)
        if self.cfg.artifact and code == 0 and self.sent is not None and not self.sent.artifact:
            if self.run is None:
                self.start()
            self.give_model()
        if self.run is None:
            return
        if code > 128:
            self.run.mark_preempting()
        self.run.finish(exit_code=code)
        self.run = None
        self.verify(step)

    def give_model(self) -> None:
        """Log the newest checkpoint's model; its files stay where they are until they are uploaded."""
        import wandb  # noqa: PLC0415

        newest = steps(self.path / "checkpoints")[0]
        artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", self.path.name, flags=re.ASCII), "model")
        artifact.add_file(str(self.path.resolve() / "config.yaml"), policy="immutable")
        model = Path("checkpoints", f"step_{newest}", "model")
        artifact.add_dir(str(self.path.resolve() / model), name=str(model), policy="immutable")
        self.run.log_artifact(artifact, aliases=["latest", f"step_{newest}"])

    def verify(self, step: float) -> None:
        """OSError unless all is on the disk: W&B itself keeps silent about a full one. Online the server has it."""
        if self.live:
            for file in files(self.path, kind=ONLINE) + files(self.path, kind=OFFLINE):
                mark(file)
            return
        wanted = [record["step"] for record in runs.read_jsonl(self.path / "metrics.jsonl")]
        wanted = [number for number in wanted if number <= step]
        if wanted and sent(self.path).step < max(wanted):
            raise OSError(f"{self.path / 'wandb'}: not all was written; is the disk full?")


@cache
def forget_others() -> None:
    """Have a W&B process of our own: whoever started this process may have left the name of his in the environment."""
    os.environ.pop("WANDB_SERVICE", None)


def catch_up(path: Path, say: Callable[[str], None]) -> None:
    """Bring W&B up to a run that no process trains: what a killed one left, and what probes found since."""
    values: Any = OmegaConf.load(path / "config.yaml")
    log = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Log), values.log))
    assert isinstance(log, Log)
    if log.wandb != "disabled" and (files(path, kind=ONLINE) or any(map(begun, files(path, kind=OFFLINE)))):
        log.wandb = "online"
    Follower(path, log, say).close(0 if runs.finished(path) else 1)


def waiting(path: Path) -> tuple[int, bool]:
    """How many steps of a run W&B was not given though no restart does them again, and whether probes are new."""
    follower = Follower(path, Log(), print)
    known, found = sent(path), probed(path)
    behind = {
        record["step"]
        for record in follower.read(follower.saved())
        if record["step"] > known.step or (record["split"] == PROBE and record["step"] not in known.probes)
    }
    follower.forget()
    return len(behind), any(known.summary.get(key) != value for key, value in found.items())
