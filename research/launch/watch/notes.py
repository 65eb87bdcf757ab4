"""What became of the probes on the way of a run, in its ledger: each step has a kind of its own, `probe@STEP`.

Beside the events of every kind there are
  probed  `values`: name of metrics.jsonl -> number
  undone  the run went back to an earlier step
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from research.launch.sweep import ledger
from research.launch.sweep.ledger import Event

PREFIX = "probe@"
KILLS = 2  # in a row: it may be the probe that takes too much memory

Numbers = dict[str, float]


def kind_of(step: int) -> str:
    return f"{PREFIX}{step}"


def step_of(kind: str) -> int:
    return int(kind.removeprefix(PREFIX))


def by_step(run: Path) -> dict[int, list[Event]]:
    """Events of every step that was probed, or was to be; what was undone is forgotten."""
    found: dict[int, list[Event]] = {}
    for event in ledger.events(run):
        if event.get("kind", "").startswith(PREFIX):
            found.setdefault(step_of(event["kind"]), []).append(event)
    return {step: since(events) for step, events in found.items()}


def since(events: Sequence[Event]) -> list[Event]:
    undone = [number for number, event in enumerate(events) if event["event"] == "undone"]
    return list(events[undone[-1] + 1 :] if undone else events)


def values_of(events: Sequence[Event]) -> Numbers | None:
    """What the probes of a step found; None: nothing yet."""
    return next((event["values"] for event in reversed(events) if event["event"] == "probed"), None)


def found(run: Path) -> dict[int, Numbers]:
    """Step -> what its probes found."""
    known = {step: values_of(events) for step, events in by_step(run).items()}
    return {step: values for step, values in known.items() if values is not None}


def given_up(events: Sequence[Event], tries: int) -> bool:
    """Whether it failed `tries` times in a row the same way, or was killed so often, that it is not tried again.

    A job that runs looks like one that was killed: ask its scheduler.
    """
    killed = 0
    for event in reversed(events):
        if event["event"] in ("ended", "retried"):
            break
        killed += event["event"] == "began"
    return ledger.same_errors(events) >= tries or killed >= KILLS


def note(run: Path, event: str, at: int, **facts: Any) -> None:
    """Append an event of the step `at`."""
    ledger.note(run, event, job="", kind=kind_of(at), **facts)
