"""Files of a run folder as plain values. What is wrong with one is told in a list of words, and left out."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from research import runs

SHOWN = 3  # damaged lines that are named

Line = dict[str, Any]


def values(file: Path, told: list[str]) -> Any:
    """What a JSON or YAML file holds; nothing when it is not there or cannot be read."""
    if not file.exists():
        return {}
    try:
        text = file.read_text()
        return json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=yaml.CSafeLoader)
    except (ValueError, yaml.YAMLError):
        told.append(f"{file.name} is damaged")
        return {}


def mapping(file: Path, told: list[str]) -> dict[str, Any]:
    """Give the keys of a JSON or YAML file; none when it holds something else."""
    found = values(file, told)
    if isinstance(found, dict):
        return found
    told.append(f"{file.name} is damaged")
    return {}


def lines(file: Path, told: list[str], *, needs: Mapping[str, type], whole: bool) -> list[Line]:
    """Objects of a JSONL file that have keys of these types, of the schema that this code reads.

    `whole`: nobody writes to it any more, so a last line that was cut off is damage.
    """
    data = file.read_bytes() if file.exists() else b""
    found = runs.objects(data)
    if found and found[-1] is None and not whole and not data.endswith(b"\n"):
        found.pop()
    good = [line for line in found if line and all(isinstance(line.get(k), t) for k, t in needs.items())]
    if len(good) < len(found):
        bad = [str(n) for n, line in enumerate(found, 1) if line is None or line not in good]
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        told.append(f"{file.name}: damaged at line {', '.join(bad[:SHOWN])}{more}")
    known = [line for line in good if line.get("schema", runs.SCHEMA) == runs.SCHEMA]
    if len(known) < len(good):
        others = sorted({str(line["schema"]) for line in good} - {str(runs.SCHEMA)})
        told.append(f"{file.name}: {len(good) - len(known)} lines of schema {', '.join(others)} are not read")
    return known


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; a list is a value."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def typed(words: Any) -> dict[str, str]:
    """Overrides by key; of one that was typed twice, the last."""
    pairs = (str(word).lstrip("+~").partition("=") for word in words)
    return {key: value for key, _, value in pairs}
