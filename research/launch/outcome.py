"""What a search for batch sizes found, for people and for the file."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from research.config import Config
from research.errors import HarkError
from research.launch.search import Found, speed


def tell(found: Found) -> str:
    """One line of a bucket: its curve."""
    if not found.chosen:
        return f"{found.bound:.2f} s: not even one row fits"
    unit = "audio-s/s" if found.chosen.time else "rows"
    parts = [
        "too much" if not trial.fits else f"{speed(trial):.1f}" if trial.time else "fits"
        for trial in found.curve
    ]
    curve = ", ".join(f"{trial.rows} x {part}" for trial, part in zip(found.curve, parts, strict=True))
    return f"{found.bound:.2f} s: {curve} {unit}; takes {found.chosen.rows}"


def show(found: Sequence[Found], steps: int) -> Table:
    """Make a line of each bucket, from short to long; `steps` batches make an optimizer step."""
    grid = Table(
        "up to (s)", "rows", "audio-s per batch", "peak GB", "audio-s/s", "rows that fit", box=SIMPLE
    )
    for one in found:
        best = one.chosen
        if best is None:
            grid.add_row(f"{one.bound:.2f}", "does not fit", "", "", "", "0")
            continue
        fast = f"{steps * speed(best):.1f}" if best.time else "?"
        audio = f"{best.rows * one.bound:.1f}"
        grid.add_row(
            f"{one.bound:.2f}", str(best.rows), audio, f"{best.peak / 1e9:.2f}", fast, str(one.largest)
        )
    return grid


def facts_of(found: Found, steps: int) -> dict[str, Any]:
    """What the file keeps of a bucket."""
    best = found.chosen
    assert best is not None
    return {
        "bound": found.bound,
        "rows": best.rows,
        "rows_that_fit": found.largest,
        "audio_s": round(best.rows * found.bound, 2),
        "peak_gb": round(best.peak / 1e9, 3),
        "step_s": round(best.time, 4) if best.time else None,
        "audio_s_per_s": round(steps * speed(best), 1) if best.time else None,
    }


def refuse(found: Sequence[Found], cfg: Config, limit: int) -> None:
    """HarkError where a bucket, from short to long, does not fit: it cannot be left out, so something has to change."""
    long = [one.bound for one in found if not one.chosen]
    if not long:
        return
    short = [one.bound for one in found if one.chosen]
    ways = ["a larger --limit", "train.precision=bf16", "a smaller encoder"]
    if getattr(cfg.encoder, "checkpoint_layers", True) is False:
        ways.insert(0, "encoder.checkpoint_layers=true")
    if short:
        ways.insert(0, f"data.max_seconds={max(short):.2f}{' and bins for it' if cfg.data.bounds else ''}")
    raise HarkError(
        f"one row of {min(long):.2f} s does not fit into {limit / 1e9:.2f} GB; nothing was written. "
        f"Type {', or '.join(ways)}"
    )
