"""A run folder as data frames."""

from pathlib import Path

import pandas as pd

from research.errors import HarkError
from research.runs import read_jsonl


def metrics(run: Path) -> pd.DataFrame:
    """One row per logged step and split, one column per metric; HarkError when nothing was logged."""
    return frame(run / "metrics.jsonl", "train it first: hark train")


def probes(run: Path) -> pd.DataFrame:
    """One row per line of probes.jsonl (see research/evaluation/records.py); HarkError when there is none."""
    return frame(run / "probes.jsonl", f"probe it first: hark probe {run}")


def frame(file: Path, advice: str) -> pd.DataFrame:
    lines = list(read_jsonl(file))
    if not lines:
        raise HarkError(f"{file}: holds nothing; {advice}")
    return pd.DataFrame(lines)
