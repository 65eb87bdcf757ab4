"""What an entry may say: hark's keys, and those of NeMo's `input_cfg`."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from research.errors import HarkError, nearest

PLACES = ("path", "fields", "sources")  # one of these says where the data is
KEYS = (*PLACES, "tar", "skip_missing", "weight", "tags", "temperature")
NEMO = {  # its keys -> ours
    "manifest_filepath": "path",
    "tarred_audio_filepaths": "tar",
    "cuts_path": "path",
    "shar_path": "path",
    "input_cfg": "sources",
}
TYPES = {  # its types -> what they want
    "nemo": {"manifest_filepath"},
    "nemo_tarred": {"manifest_filepath", "tarred_audio_filepaths"},
    "lhotse": {"cuts_path"},
    "lhotse_shar": {"shar_path"},
    "group": {"input_cfg"},
}


def keys_of(entry: Any) -> dict[str, Any]:
    """Entry in hark's keys, checked. HarkError: it is no path or mapping, or a key or a value is not known."""
    if isinstance(entry, str):
        return {"path": entry}
    if not isinstance(entry, Mapping):
        raise HarkError(f"{told(entry)}: a source is a path, or a mapping with one of {', '.join(PLACES)}")
    found = translated(entry)
    if len(found.keys() & set(PLACES)) != 1:
        raise HarkError(f"{told(entry)}: a source has one of {', '.join(PLACES)}")
    if "tar" in found and "path" not in found:
        raise HarkError(f"{told(entry)}: tar goes with path, which names the manifests")
    for key in ("weight", "temperature"):
        if key in found and not positive(found[key]):
            raise HarkError(f"{told(entry)}: {key} is {found[key]!r}, it must be a number above 0")
    if not isinstance(found.get("tags", {}), Mapping):
        raise HarkError(f"{told(entry)}: tags is {found['tags']!r}, it must be a mapping")
    if not isinstance(found.get("skip_missing", False), bool):
        raise HarkError(f"{told(entry)}: skip_missing is {found['skip_missing']!r}, it must be true or false")
    return found


def translated(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Entry in hark's keys. HarkError: a key or type is not known, or its type wants others."""
    said = {key: value for key, value in entry.items() if value is not None}
    kind = said.pop("type", None)
    for key in said:
        known(entry, "key", key, [*KEYS, *NEMO, "type"])
    if kind is not None:
        known(entry, "type", kind, TYPES)
        if said.keys() & NEMO.keys() != TYPES[kind]:
            raise HarkError(f"{told(entry)}: a source of type {kind} has {' and '.join(sorted(TYPES[kind]))}")
    found: dict[str, Any] = {}
    for key, value in said.items():
        ours = NEMO.get(key, key)
        ours = "fields" if ours == "path" and isinstance(value, Mapping) else ours
        ours = "path" if ours == "sources" and isinstance(value, str) else ours
        if ours in found:
            raise HarkError(f"{told(entry)}: {key} is said twice")
        found[ours] = value
    return found


def known(entry: Any, what: str, word: Any, words: Iterable[str]) -> None:
    words = list(words)
    if word not in words:
        hint = nearest(str(word), words) or f"; known are {', '.join(words)}"
        raise HarkError(f"{told(entry)}: unknown {what} '{word}'{hint}")


def texts(entry: Any, key: str, value: Any) -> list[str]:
    """Paths of one key: one, a list, or NeMo's lists of lists. HarkError: there is none, or something else."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple) or not value:
        raise HarkError(f"{told(entry)}: {key} is {value!r}, it must be a path or a list of paths")
    return [text for one in value for text in texts(entry, key, one)]


def positive(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)
    )


def told(entry: Any) -> str:
    """Name an entry in an error."""
    text = str(entry)
    return text if len(text) < 100 else f"{text[:97]}..."
