"""`alarms.jsonl` in a run's folder: one object per event, schema 1.

schema   1
time     s since 1970
step     finished steps when it went off, was over, or brought about a rollback
alarm    one of alarms.py
event    on, off, or rollback
measure, value, limit   what was measured, and the limit that it passed; null when it is over
says     the line that the log got
to, lr_factor           of a rollback: the step gone back to, and the factor on the learning rate from there on
"""

import json
import time
from pathlib import Path
from typing import Any

from research import runs
from research.files import append, write

FILE, SCHEMA = "alarms.jsonl", 1


def note(run: Path, event: str, step: int, alarm: str, **facts: Any) -> None:
    """Append an event; it is on the disk when this returns."""
    record = {"schema": SCHEMA, "time": time.time(), "step": step, "alarm": alarm, "event": event, **facts}
    append(run / FILE, json.dumps(record))


def events(run: Path) -> list[dict[str, Any]]:
    return list(runs.read_jsonl(run / FILE))


def rollbacks(run: Path) -> list[dict[str, Any]]:
    """Every time that a run went back, the first one first."""
    return [event for event in events(run) if event["event"] == "rollback"]


def on(run: Path) -> dict[str, str]:
    """Alarms of a run that are on, with what they say."""
    found: dict[str, str] = {}
    for event in events(run):
        if event["event"] == "on":
            found[event["alarm"]] = event["says"]
        else:  # what was rolled back is undone, whatever it was
            found = (
                {}
                if event["event"] == "rollback"
                else {k: v for k, v in found.items() if k != event["alarm"]}
            )
    return found


def keep_until(run: Path, step: int) -> None:
    """Drop what a killed run noted after the checkpoint that it resumes from; rollbacks are never done again."""
    if (run / FILE).exists():
        kept = [one for one in events(run) if one["step"] <= step or one["event"] == "rollback"]
        write(run / FILE, "".join(json.dumps(one) + "\n" for one in kept))
