"""What became of the jobs of a run: `jobs.jsonl` in its folder, which whoever knows something appends to.

Every event has `event`, `time` (s since 1970), `job` (id) and `kind` (train, probe, or probe@STEP: see research/launch/watch/notes.py); beside those
  queued     scheduler, sweep, code (snapshot), batch (name of the submission), order (file); `job` is not known yet
  submitted  the id of what was queued under this batch: batch
  began      host, pid, step (of the newest checkpoint), logs
  ended      outcome (done, failed, stopped, pruned, alarmed), step (as above), error (its last line), again (it was queued again
             by itself)
  cancelled  by `hark cancel`
  retried    by `hark retry`: errors from before no longer count
"""

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research import runs
from research.files import append

Event = dict[str, Any]


def note(run: Path, event: str, **facts: Any) -> None:
    """Append an event; it is on the disk when this returns. Several processes may do so, and be killed doing it."""
    append(run / "jobs.jsonl", json.dumps({"event": event, "time": time.time(), **facts}))


def events(run: Path, kind: str = "") -> list[Event]:
    """Events of a run, the oldest first: those of one kind of job, or all. What a killed process half wrote is none."""
    file = run / "jobs.jsonl"
    found = runs.objects(file.read_bytes()) if file.exists() else []
    return [event for event in found if event and kind in ("", event.get("kind"))]


def kinds(run: Path) -> list[str]:
    """Kinds of jobs that were ever submitted for a run."""
    return list(dict.fromkeys(event["kind"] for event in events(run) if event["event"] == "queued"))


@dataclass(frozen=True)
class Submission:
    """What was submitted last for a run, of one kind of job."""

    scheduler: str
    sweep: str
    batch: str
    order: Path  # file
    code: Path  # snapshot
    job: str  # id; "" when whoever submitted it was killed before they could note it down, and it has not begun
    since: tuple[Event, ...]  # that were noted after it was queued

    @property
    def number(self) -> int:
        """Which job of its batch it is."""
        return int(self.order.stem.rpartition("-")[2])

    @property
    def last(self) -> Event | None:
        """The last time that it began or ended."""
        return next((event for event in reversed(self.since) if event["event"] in ("began", "ended")), None)

    @property
    def began(self) -> bool:
        return any(event["event"] == "began" for event in self.since)

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled before it had come to an end of its own."""
        over = False
        for event in self.since:
            if event["event"] == "cancelled" and not over:
                return True
            if event["event"] in ("began", "ended"):
                over = ended_for_good(event)
        return False


def ended_for_good(event: Event) -> bool:
    return event["event"] == "ended" and not event.get("again")


def submission(found: Sequence[Event]) -> Submission | None:
    """Give the last submission in events of one kind; None when nothing was ever submitted."""
    starts = [number for number, event in enumerate(found) if event["event"] == "queued"]
    if not starts:
        return None
    before, queued, since = found[: starts[-1]], found[starts[-1]], tuple(found[starts[-1] + 1 :])
    others = {event.get("job") for event in before}
    told = [e["job"] for e in since if e["event"] == "submitted" and e["batch"] == queued["batch"]]
    told += [e["job"] for e in since if e["event"] == "began" and e["job"] not in others]
    return Submission(
        scheduler=queued["scheduler"],
        sweep=queued["sweep"],
        batch=queued["batch"],
        order=Path(queued["order"]),
        code=Path(queued["code"]),
        job=told[0] if told else "",
        since=since,
    )


def starts(found: Sequence[Event]) -> int:
    return sum(event["event"] == "began" for event in found)


def requeues(found: Sequence[Event]) -> int:
    """How often one and the same job began again."""
    return starts(found) - len({event["job"] for event in found if event["event"] == "began"})


def same_errors(found: Sequence[Event]) -> int:
    """How often in a row jobs of one kind failed with the same error, numbers in it aside, and at the same checkpoint.

    What was before `hark retry`, or before an end that was no failure of the run (done, pruned), does not count.
    """
    count, error, step = 0, "", 0
    for event in reversed(found):
        if event["event"] == "retried" or event.get("outcome") in ("done", "pruned"):
            break
        if event.get("outcome") != "failed":
            continue
        if count and (gist(event["error"]) != error or event["step"] < step):
            break
        count, error, step = count + 1, gist(event["error"]), event["step"]
    return count


def gist(error: str) -> str:
    """An error without its numbers: addresses, process ids and free bytes are other ones every time."""
    return re.sub(r"0x[0-9a-fA-F]+|\d+", "#", error)
