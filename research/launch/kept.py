"""Trials that were done, one JSON object a line, so that a search that was stopped goes on where it was."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from research import runs
from research.compose import Composed
from research.config import Config
from research.files import append

BESIDE = {
    "log",
    "checkpoint",
    "cluster",
    "watch",
    "schedule",
    "init",
}  # sections that a step's size does not depend on
BESIDE_DATA = {"train", "valid", "bins", "bounds", "sizes", "buckets", "reader", "workers", "headers"}


def key_of(composed: Composed[Config], *facts: str | float | None) -> str:
    """Name what trials depend on: the config without what says which data is read, and `facts`, such as the device."""
    values = {name: part for name, part in runs.values_of(composed.config).items() if name not in BESIDE}
    values["data"] = {name: value for name, value in values["data"].items() if name not in BESIDE_DATA}
    values["run"] = values["run"]["seed"]
    text = json.dumps([values, composed.choices, torch.__version__, facts], sort_keys=True, default=str)
    return sha256(text.encode()).hexdigest()[:10]


class Kept:
    """Trials, and batches in turn, of one key in a file that may hold those of others."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.lines = [line for line in runs.read_jsonl(path) if line["key"] == key]

    @property
    def limit(self) -> int | None:
        """The limit in bytes that the first of them had."""
        return int(self.lines[0]["limit"]) if self.lines else None

    def find(self, what: dict[str, Any]) -> dict[str, Any] | None:
        """Give the line of `what`, plain values, if it was tried."""
        return next((line for line in self.lines if line["what"] == what), None)

    def add(self, what: dict[str, Any], limit: int, **found: Any) -> None:
        line = {"key": self.key, "limit": limit, "what": what, **found}
        self.lines.append(line)
        append(self.path, json.dumps(line))
