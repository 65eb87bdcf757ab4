"""What `data.train` lists -> the sources of a mixture, each with its share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.config import Streams
from research.data.streams.clip import Shard
from research.data.streams.entries import Node, members
from research.data.streams.gather import Indexes, gather
from research.data.streams.match import Matching
from research.errors import HarkError


@dataclass
class Stream:
    """A source: what one entry names, as shards."""

    name: str
    shards: list[Shard]
    share: float  # of the mixture: all of them sum to 1
    tags: dict[str, Any] = field(
        default_factory=dict
    )  # what the entry, and the lists it is in, say of its utterances
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> utterances

    def __len__(self) -> int:
        return sum(len(shard.durations) for shard in self.shards)

    @property
    def durations(self) -> NDArray[np.float32]:
        """Seconds, (U,), shard after shard."""
        return np.concatenate([shard.durations for shard in self.shards])


def open_streams(entries: Sequence[Any], cfg: Streams) -> list[Stream]:
    """Open all sources of a mixture; what was never read before is indexed first, by all cores.

    An entry is a path, or a mapping: `path` (and `tar`, `skip_missing`), `fields` or `sources` (and `temperature`) with
    `weight` and `tags`. Of a group's members each has the share of its weight, or without weights that of its
    utterances; with a temperature T these are raised to 1/T. HarkError names the entry, file or line that is wrong.
    """
    if cfg.temperature <= 0:
        raise HarkError(f"data.temperature={cfg.temperature:g}: must be above 0")
    root = Node("data", members=members(list(entries), list(entries), "", ()))
    indexes = gather(one for node in sources(root) for one in node.files)
    return mixed(root, indexes, cfg.temperature)


def sources(node: Node) -> Iterator[Node]:
    yield from (leaf for member in node.members for leaf in sources(member))
    if node.files:
        yield node


def mixed(node: Node, indexes: Indexes, temperature: float) -> list[Stream]:
    """All sources of a group, or the one that `node` is; their shares sum to 1."""
    if not node.members:
        return [opened(node, indexes)]
    parts = [mixed(member, indexes, temperature) for member in node.members]
    sizes = [member.weight or sum(map(len, part)) for member, part in zip(node.members, parts, strict=True)]
    shares = np.array(sizes, np.float64) / sum(sizes)
    shares **= 1 / (node.temperature or temperature)
    for share, member, part in zip(shares / shares.sum(), node.members, parts, strict=True):
        for stream in part:
            stream.share *= float(share)
            stream.tags = member.tags | stream.tags
    return [stream for part in parts for stream in part]


def opened(node: Node, indexes: Indexes) -> Stream:
    """Open one source. HarkError: it has no utterance."""
    found = Matching(indexes, node.skip_missing)
    for files in node.files:
        found.add(files)
    found.check_ids()
    out = {reason: count for reason, count in found.out.items() if count}
    if not found.shards:
        told = ", ".join(f"{count} {reason}" for reason, count in out.items())
        raise HarkError(f"{node.name}: has no utterance" + (f" (left out: {told})" if told else ""))
    return Stream(node.name, list(found.shards), 1.0, {}, out)
