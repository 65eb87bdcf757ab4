"""What became of the jobs of a run: `jobs.jsonl` in its folder, which whoever knows something appends to.

Every event has `event`, `time` (s since 1970), `job` (id) and `kind` (train or probe); beside those
  queued     scheduler, sweep, code (snapshot), batch (name of the submission); `job` is "" until it is known
  submitted  the id of what was queued under this batch: batch
  began      host, pid, step, logs
  ended      outcome (done, failed, stopped, pruned), step, error (its last line), again (it was queued again by itself)
  cancelled  by `hark cancel`
  retried    by `hark retry`: errors from before no longer count
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from research import runs


def note(run: Path, event: str, **facts: Any) -> None:
    """Append an event; it is on the disk when this returns. One write: lines of several processes do not mix."""
    line = json.dumps({"event": event, "time": time.time(), **facts}) + "\n"
    with open(run / "jobs.jsonl", "a") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def events(run: Path) -> list[dict[str, Any]]:
    return list(runs.read_jsonl(run / "jobs.jsonl"))
