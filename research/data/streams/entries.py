"""The entries of `data.train`, as typed or in a YAML file -> a tree of sources and groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from research.data.streams.index import unreadable
from research.data.streams.layouts import Files, of_fields, of_paths, of_tars
from research.data.streams.patterns import placed
from research.data.streams.spelling import keys_of, known, texts, told
from research.errors import HarkError


@dataclass
class Node:
    """A source, which has files, or a group of them, which has members."""

    name: str
    weight: float | None = None  # among its siblings; None: as many as it has utterances
    tags: dict[str, Any] = field(default_factory=dict)
    files: list[Files] = field(default_factory=list)
    skip_missing: bool = False
    members: list["Node"] = field(default_factory=list)
    temperature: float | None = None  # of its members' shares


def read(entry: Any, folder: str = "", above: tuple[str, ...] = ()) -> Node:
    """Read an entry whose relative paths start at `folder`; `above` are the lists that it is in.

    HarkError: it is no path or mapping, has an unknown key, or names what is missing or not known.
    """
    found = keys_of(entry)
    name, weight, tags = name_of(found, folder), found.get("weight"), dict(found.get("tags", {}))
    if str(found.get("path")).endswith((".yaml", ".yml")):
        file = placed(found.pop("path"), folder)
        if file in above:
            raise HarkError(f"{file}: is in itself, by {above[-1]}")
        found["sources"], folder, above = read_list(file), str(Path(file).parent), (*above, file)
    group = "sources" in found
    for key in sorted(found.keys() & ({"tar", "skip_missing"} if group else {"temperature"})):
        raise HarkError(f"{told(entry)}: {key} belongs to {'a source' if group else 'a group'}")
    if group:
        below = members(entry, found["sources"], folder, above)
        return Node(name, weight, tags, members=below, temperature=found.get("temperature"))
    return Node(name, weight, tags, files(entry, found, folder), found.get("skip_missing", False))


def members(entry: Any, sources: Any, folder: str, above: tuple[str, ...]) -> list[Node]:
    """Read all members of a group. HarkError: there is none, or only some have a weight."""
    if not isinstance(sources, list | tuple) or not sources:
        raise HarkError(f"{told(entry)}: sources is {sources!r}, it must be a list of sources")
    found = [read(one, folder, above) for one in sources]
    without = [node.name for node in found if node.weight is None]
    if 0 < len(without) < len(found):
        raise HarkError(
            f"{without[0]}: has no weight, but another source beside it has; give all or none one"
        )
    return found


def files(entry: Any, found: Mapping[str, Any], folder: str) -> list[Files]:
    """Find the files of a source."""
    if "fields" in found:
        fields = found["fields"]
        if not isinstance(fields, Mapping) or "cuts" not in fields:
            raise HarkError(
                f"{told(entry)}: fields must be a mapping with cuts, and recording where that is in tars"
            )
        for key in fields:
            known(entry, "field", key, ("cuts", "recording"))
        cuts = texts(entry, "cuts", fields["cuts"])
        return of_fields(cuts, texts(entry, "recording", fields.get("recording", ())), folder)
    paths = texts(entry, "path", found["path"])
    return (
        of_tars(paths, texts(entry, "tar", found["tar"]), folder)
        if "tar" in found
        else of_paths(paths, folder)
    )


def read_list(file: str) -> Any:
    """Read a list of sources. HarkError: it cannot be read, or is not YAML."""
    try:
        return yaml.safe_load(Path(file).read_text())
    except OSError as error:
        raise unreadable(Path(file), error) from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise HarkError(f"{file}: is not YAML") from None


def name_of(found: Mapping[str, Any], folder: str) -> str:
    """What an entry is called where it is told of."""
    if "sources" in found:
        return "a group"
    value = found.get("path", found.get("fields"))
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return placed(value, folder) if isinstance(value, str) else str(value)
