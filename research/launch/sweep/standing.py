"""Where runs stand: what their folders say first, then the events of their jobs, then the scheduler."""

import glob
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from research import runs
from research.errors import HarkError
from research.launch.sweep import ledger
from research.launch.sweep.backend import Backend, Live
from research.launch.sweep.ledger import Submission


class Standing(Enum):
    missing = "missing"  # never submitted
    pending = "pending"
    running = "running"  # a job, or somebody by hand
    requeued = "requeued"  # waits to go on
    done = "done"
    failed = "failed"
    cancelled = "cancelled"  # by `hark cancel`
    pruned = "pruned"  # by a search
    alarmed = "alarmed"  # an alarm stopped it; only `hark retry` goes on
    lost = "lost"  # gone without a word: killed, or its node failed
    stopped = "stopped"  # by hand or by the scheduler, and not queued again
    unknown = "unknown"  # its scheduler does not answer


WAITING = (Standing.requeued, Standing.pending)
LIVE = (Standing.running, *WAITING)
AGAIN = (Standing.missing, Standing.lost, Standing.stopped, Standing.cancelled)


@dataclass(frozen=True)
class Wanted:
    """What is asked about: the training of a run, or its probes."""

    run: Path
    kind: str = "train"  # of its jobs, as in the ledger
    probes: tuple[str, ...] = ()  # that have to be in probes.jsonl; none: what its last job was told


@dataclass(frozen=True)
class State:
    wanted: Wanted
    standing: Standing
    reason: str = ""  # why it waits, or what went wrong
    last: Submission | None = None
    job: str = ""  # id
    where: str = ""  # node
    starts: int = 0
    requeues: int = 0
    errors: int = 0  # equal ones in a row


def to_submit(state: State, tries: int) -> bool:
    """Whether a job is due: nothing stands in its way, and it has not failed `tries` times in a row the same way."""
    return state.standing in AGAIN or (state.standing is Standing.failed and state.errors < tries)


@dataclass(frozen=True)
class Noted:
    """What the folder of a run says."""

    events: list[ledger.Event]
    last: Submission | None
    done: bool


@dataclass(frozen=True)
class Answer:
    """What schedulers say."""

    jobs: dict[Path, str]  # order file -> id that nobody noted
    lives: dict[str, Live]
    silent: dict[str, str]  # scheduler that does not answer -> why

    def job(self, last: Submission | None) -> str:
        """Id of what was submitted last, "" where none is known."""
        return "" if last is None else last.job or self.jobs.get(last.order, "")


def standings(
    wanted: Sequence[Wanted], backends: Mapping[str, Backend], *, lenient: bool = False
) -> list[State]:
    """Tell where runs stand, asking each scheduler once.

    HarkError when one of them does not answer: nothing may be submitted then. `lenient`: its jobs are unknown.
    """
    found = [noted(one) for one in wanted]
    asked = [each.last for each in found if each.last and not each.done]
    answer = ask(asked, backends, lenient=lenient)
    return [told(one, before, answer) for one, before in zip(wanted, found, strict=True)]


def noted(wanted: Wanted) -> Noted:
    events = ledger.events(wanted.run, wanted.kind)
    last = ledger.submission(events)
    return Noted(events, last, is_done(wanted, last))


def told(wanted: Wanted, before: Noted, answer: Answer) -> State:
    """Tell where a run stands. `before`: what its folder said before its scheduler was asked."""
    job = answer.job(before.last)
    live, held = answer.lives.get(job), holder(wanted)
    seen = before
    if not before.done and (live is None or live.state == "ended"):
        after = noted(wanted)  # its end may have come in between
        if answer.job(after.last) == job:  # nothing was asked of a job that was submitted in between
            seen = after
    sub, events = seen.last, seen.events
    ended_itself = sub is not None and sub.last is not None and ledger.ended_for_good(sub.last)
    if sub and not seen.done and not ended_itself and sub.scheduler in answer.silent:
        standing, reason = Standing.unknown, answer.silent[sub.scheduler]
    else:
        standing, reason = stands(sub, job, live, done=seen.done, holder=held)
    return State(
        wanted=wanted,
        standing=standing,
        reason=reason,
        last=sub,
        job=job,
        where=live.where if live else "",
        starts=max(ledger.starts(events), live.starts if live else 0),
        requeues=ledger.requeues(events),
        errors=ledger.same_errors(events),
    )


def is_done(wanted: Wanted, last: Submission | None) -> bool:
    file = wanted.run / "done.json"
    told = last is not None and last.last is not None and last.last.get("outcome") == "done"
    if wanted.kind not in ("train", "probe"):  # on the way
        return told
    if not file.exists() or wanted.kind == "train":
        return file.exists()
    if not wanted.probes:
        return told
    steps = json.loads(file.read_text())["steps"]
    probed = {line["probe"] for line in runs.read_jsonl(wanted.run / "probes.jsonl") if line["step"] == steps}
    return probed >= set(wanted.probes)


def holder(wanted: Wanted) -> int | None:
    """Process id of whoever trains a run at this moment, or None. Probes may be run side by side."""
    return runs.holder(wanted.run) if wanted.kind == "train" else None


def ask(last: Sequence[Submission], backends: Mapping[str, Backend], *, lenient: bool) -> Answer:
    """Ask every scheduler once about its jobs."""
    jobs: dict[Path, str] = {}
    lives: dict[str, Live] = {}
    silent: dict[str, str] = {}
    by_scheduler = defaultdict(list)
    for sub in last:
        by_scheduler[sub.scheduler].append(sub)
    for name, subs in by_scheduler.items():
        try:
            jobs |= recovered([sub for sub in subs if not sub.job], backends[name])
            ids = [job for sub in subs if (job := sub.job or jobs.get(sub.order, ""))]
            lives |= backends[name].states(ids) if ids else {}
        except HarkError as error:
            if not lenient:
                raise
            silent[name] = str(error)
    return Answer(jobs, lives, silent)


def recovered(last: Sequence[Submission], backend: Backend) -> dict[Path, str]:
    """Find the ids of jobs whose submitter was killed before it could note them: order file -> id."""
    found: dict[Path, str] = {}
    for batch in {sub.batch for sub in last}:
        members = [sub for sub in last if sub.batch == batch]
        ids = backend.recover(batch, len(orders_of(members[0])))
        found |= {sub.order: ids[sub.number] for sub in members} if ids else {}
    return found


def orders_of(last: Submission) -> list[Path]:
    """Files of all jobs that were submitted together."""
    return list(last.order.parent.glob(f"{glob.escape(last.batch)}-*.json"))


def stands(
    last: Submission | None, job: str, live: Live | None, *, done: bool, holder: int | None
) -> tuple[Standing, str]:
    """Give the standing, and why."""
    if done:
        return Standing.done, ""
    if live and live.state == "running":
        return Standing.running, ""
    if live and live.state == "pending":
        return Standing.requeued if last and last.began else Standing.pending, live.reason
    if holder is not None:
        return Standing.running, f"as process {holder}, without a job"
    if last is None or not job:
        return Standing.missing, ""
    return ended(last, live)


def ended(last: Submission, live: Live | None) -> tuple[Standing, str]:
    """Tell of a job that neither runs nor waits, by what it noted itself."""
    reason = live.reason if live else ""
    event = last.last
    if last.cancelled:
        return Standing.cancelled, ""
    if event is None or not ledger.ended_for_good(event):
        if reason.startswith("CANCELLED"):
            return Standing.stopped, reason
        return Standing.lost, reason or "gone without a word"
    if event["outcome"] == "done":
        return Standing.lost, "it was done, but what it made is gone"
    return Standing(event["outcome"]), event["error"] or reason
