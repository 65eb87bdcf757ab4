"""What W&B is given of a run folder: a row for every step, and a summary of what probes found last."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from research import runs

PROBE = "probe"  # split of metrics.jsonl: probes on the way
PROBES = "probe/steps"  # in the summary: of which of them there are rows


def row(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What is logged of one step: `train/loss`, `valid/loss`, ..., and the `time` (s since 1970) that it was done."""
    values: dict[str, Any] = {}
    for record in records:
        numbers = {k: v for k, v in record.items() if k not in ("schema", "step", "split", "time")}
        numbers |= {"step": record["step"]} if record["split"] == PROBE else {}
        values |= {"time": record["time"]} | {f"{record['split']}/{k}": v for k, v in numbers.items()}
    return values


def probed(path: Path) -> dict[str, Any]:
    """What probes found at their newest step, for a summary: probe/NAME/REPRESENTATION/{metric, low, high, layer, step}."""
    scores = [line for line in runs.read_jsonl(path / "probes.jsonl") if line["kind"] == "score"]
    newest: dict[str, int] = {}
    for line in scores:
        newest[line["probe"]] = max(line["step"], newest.get(line["probe"], 0))
    return {
        f"probe/{line['probe']}/{line['representation']}/{name}": value
        for line in scores
        if line["step"] == newest[line["probe"]]
        if line["headline"] and (line["chosen"] or line["layer"] is None)
        for name, value in (
            (line["metric"], line["mean"]),
            *((key, line[key]) for key in ("low", "high", "layer", "step")),
        )
        if value is not None
    }
