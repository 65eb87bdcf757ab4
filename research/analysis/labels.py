"""What axes and legends say: names of metrics with their units, of factors and of their levels."""

from collections.abc import Iterable, Mapping
from typing import Any

UNITS = {  # last word of a column or metric -> name with its unit
    "step": "step (updates)",
    "steps": "steps (updates)",
    "audio_h": "audio heard (hours)",
    "device_h": "device time (hours)",
    "wall_s": "wall time (s)",
    "energy_kwh": "energy (kWh)",
    "loss": "loss (per target)",
    "acc": "masked accuracy (share of targets)",
    "contrast_acc": "contrastive accuracy (share of targets)",
    "cer": "character error rate (share of characters)",
    "l1": "L1 error (per feature)",
    "mse": "squared error (per feature)",
    "usage": "codes in use (share of codebook)",
    "target_ppl": "perplexity of targets (codes)",
    "pred_ppl": "perplexity of predictions (codes)",
    "padding": "padding (share of batch)",
    "audio_s_per_s": "speed (s of audio per s)",
    "peak_mb": "peak memory (MB)",
    "accuracy": "accuracy (share)",
    "pnmi": "PNMI (share of phone entropy)",
    "gain": "gain over random-init (score)",
}
SPLITS = {"train": "training", "valid": "validation", "health": "panel"}


def axis(metric: str, split: str = "") -> str:
    """Words for an axis: `valid/loss` -> `validation loss (per target)`; an unknown metric goes by its own name."""
    head, _, tail = metric.rpartition("/")
    if head.startswith("probe/"):
        probe = head.removeprefix("probe/").replace("_", " ")
        return f"{probe}: {UNITS.get(tail, tail.replace('_', '-') + ' (score)')}"
    said = SPLITS.get(split or head, split or head)
    return f"{said} {UNITS.get(tail, tail.replace('_', ' '))}".strip()


def short(factors: Iterable[str]) -> dict[str, str]:
    """Factor -> the last part of its key, or all of it where two would be called the same."""
    last = {factor: factor.rpartition(".")[2] for factor in factors}
    ends = list(last.values())
    return {factor: end if ends.count(end) == 1 else factor for factor, end in last.items()}


def level(values: Mapping[str, Any]) -> str:
    """Name a configuration by its factors: `64`, or `codes 64, prob 0.4` where there are several."""
    if len(values) == 1:
        return plain(*values.values())
    names = short(values)
    return ", ".join(f"{names[factor]} {plain(value)}" for factor, value in values.items())


def plain(value: Any) -> str:
    """Write a level as one types it; `default` is one that was not typed."""
    if isinstance(value, float):
        return "default" if value != value else f"{value:g}"  # noqa: PLR0124  NaN
    return "default" if value is None or value == "" else str(value)
