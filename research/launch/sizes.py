"""What `hark memory` does: measure or predict steps, choose a batch for every bucket, write it down."""

import argparse
import shlex
import signal
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol

import yaml
from rich.console import Console

from research.compose import Composed, compose_config
from research.config import Config, Streams
from research.errors import HarkError
from research.files import write
from research.launch.bench import Bench
from research.launch.buckets import bounds_of
from research.launch.devices import find_device
from research.launch.kept import Kept, key_of
from research.launch.outcome import facts_of, refuse, show, tell
from research.launch.predict import predict
from research.launch.search import Found, merge, search, take_turns
from research.launch.team import Team
from research.launch.trial import Trial
from research.launch.worker import Batches
from research.model import check


class Judge(Protocol):
    """Whatever says what a step takes."""

    device: str
    memory: int  # bytes that there are; 0: unknown

    def measure(self, rows: int, seconds: float, steps: int, limit: int) -> Trial: ...

    def in_turn(self, batches: Batches, limit: int) -> tuple[bool, int]: ...

    def close(self) -> None: ...


class Paper:
    """Steps that nobody does, for a device that need not be here."""

    def __init__(self, cfg: Config, name: str) -> None:
        self.cfg, self.name, self.device = cfg, name, f"{name}, predicted"
        self.memory = find_device(name).memory

    def measure(self, rows: int, seconds: float, steps: int, limit: int) -> Trial:
        """Predict a step. What the device takes beside tensors counts as well."""
        found = predict(self.cfg, rows, seconds, self.name)
        return Trial(rows, seconds, found.needed, found.needed <= limit, found.seconds)

    def in_turn(self, batches: Batches, limit: int) -> tuple[bool, int]:
        """What a device leaves in pieces is in every prediction."""
        peak = max(self.measure(rows, seconds, 1, limit).peak for rows, seconds in batches)
        return peak <= limit, peak

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Trials:
    """Everything is tried once, unless an earlier command has done it."""

    judge: Judge
    kept: Kept
    limit: int  # bytes
    team: Team
    console: Console

    def measure(self, rows: int, seconds: float, steps: int) -> Trial:
        """Look up what rank 0 has kept, or try it, on all ranks."""
        what = {"rows": rows, "seconds": seconds, "steps": steps}
        known = self.team.gather(self.kept.find(what))[0]
        if known:
            return Trial(**known["trial"])
        with self.console.status(f"{seconds:.2f} s: trying {rows} rows"):
            trial = self.judge.measure(rows, seconds, steps, self.limit)
        if self.team.rank == 0:
            self.kept.add(what, self.limit, trial=trial._asdict())
        return trial

    def in_turn(self, batches: Batches) -> tuple[bool, int]:
        """The same for batches one after another: whether they fit, and their peak in bytes."""
        what = {"turns": [list(batch) for batch in batches]}
        known = self.team.gather(self.kept.find(what))[0]
        if known:
            return known["fits"], known["peak"]
        with self.console.status("trying all buckets in turn"):
            fits, peak = self.judge.in_turn(batches, self.limit)
        if self.team.rank == 0:
            self.kept.add(what, self.limit, fits=fits, peak=peak)
        return fits, peak


def find_sizes(args: argparse.Namespace) -> int:
    """Exit code 0, or 130 after Ctrl-C. HarkError: a bucket fits not even with one row, or buckets are not known."""
    composed = compose_config(args.overrides)
    check(composed.config)
    team = Team()
    console = Console(highlight=False, soft_wrap=True, quiet=team.rank > 0)
    bounds = team.gather(bounds_of(composed.config.data) if team.rank == 0 else [])[0]
    try:
        judge = Paper(composed.config, args.predict) if args.predict else Bench(composed.config, team)
        with closing(judge):
            trials = prepare(args, composed, judge, team, console)
            found, peak = turns(look(args, composed.config, bounds, trials), composed.config, trials)
    except KeyboardInterrupt:
        console.print("stopped; what was tried is kept, the same command goes on")
        return 128 + signal.SIGINT
    finish(args, composed.config, found, peak, trials)
    return 0


def prepare(
    args: argparse.Namespace, composed: Composed[Config], judge: Judge, team: Team, console: Console
) -> Trials:
    """Decide on the limit, and find what an earlier command has tried under it."""
    if args.limit and 0 < judge.memory < args.limit:
        raise HarkError(f"--limit {args.limit / 1e9:.2f} GB: {judge.device} has {judge.memory / 1e9:.2f} GB")
    if not args.limit and not judge.memory:
        raise HarkError(f"--predict {args.predict}: nobody knows how much memory it has; type --limit 8GB")
    key = key_of(composed, judge.device, team.size, args.limit or args.fraction)
    kept = Kept(args.out.with_suffix(".trials.jsonl"), key)
    wanted = args.limit or kept.limit or int(args.fraction * judge.memory)
    limit = min(team.gather(wanted))
    ranks = f", {team.size} ranks" if team.size > 1 else ""
    console.print(f"{judge.device}{ranks}: up to {limit / 1e9:.2f} GB each")
    return Trials(judge, kept, limit, team, console)


def look(args: argparse.Namespace, cfg: Config, bounds: list[float], trials: Trials) -> list[Found]:
    """Search bucket after bucket; stop where it is known what is too long."""
    most = args.max_rows
    if isinstance(cfg.data, Streams) and cfg.data.max_rows:
        most = min(most, cfg.data.max_rows)
    found: list[Found] = []
    for one in search(bounds, trials.measure, most=most, repeats=args.repeats):
        found.append(one)
        trials.console.print(tell(one))
        if one.chosen and not found[0].chosen:
            break
    return found[::-1]


def turns(found: list[Found], cfg: Config, trials: Trials) -> tuple[list[Found], int]:
    """Make sure that the batches fit in turn; give them, and their peak in bytes. HarkError: they, or one, do not."""
    steps, peaks = cfg.train.batches, [0]

    def fits(chosen: list[Trial]) -> bool:
        fit, peak = trials.in_turn(mixed(chosen))
        peaks.append(peak)
        told = "" if fit else ": too much, without the largest"
        trials.console.print(f"in turn {peak / 1e9:.2f} GB{told}")
        return fit

    taken = take_turns(found, fits) if all(one.chosen for one in found) else found
    trials.console.print(show(taken or found, steps))
    refuse(found, cfg, trials.limit)
    if taken is None:
        raise HarkError(
            f"every batch fits into {trials.limit / 1e9:.2f} GB, but not all in turn; nothing was written. "
            "Type a larger --limit, or a smaller data.max_seconds"
        )
    return taken, peaks[-1]


def mixed(chosen: list[Trial]) -> Batches:
    """Order batches as training has them: of any bucket, and not always full length."""
    batches = [(trial.rows, part * trial.seconds) for part in (1.0, 0.9) for trial in chosen]
    Random(0).shuffle(batches)
    return batches


def finish(args: argparse.Namespace, cfg: Config, found: list[Found], peak: int, trials: Trials) -> None:
    """Write the file."""
    steps = cfg.train.batches
    bounds, sizes = merge([one.bound for one in found], [one.chosen.rows for one in found if one.chosen])
    made: dict[str, Any] = {
        "command": shlex.join(["hark", "memory", *args.overrides]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": trials.judge.device,
        "ranks": trials.team.size,
        "limit_gb": round(trials.limit / 1e9, 3),
        "peak_gb": round(peak / 1e9, 3),
        "buckets": [facts_of(one, steps) for one in found],
    }
    if trials.team.rank == 0:
        text = yaml.safe_dump({"bounds": bounds, "sizes": sizes, "made": made}, sort_keys=False, width=110)
        write(args.out, text)
    trials.console.print(f"{args.out}: {len(bounds)} buckets; train with data.bins={args.out}")
