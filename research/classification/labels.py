"""Labels out of a manifest key."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from research.contracts import Seq
from research.data.manifest import Manifest
from research.errors import HarkError
from research.files import write


@dataclass(frozen=True)
class Vocabulary:
    """The labels that occur in training, sorted; a label's number is its place."""

    key: str
    names: list[str]
    tokens: (
        bool  # an utterance has a sequence of them (CTC): the characters of a text, or the items of a list
    )

    @classmethod
    def of(cls, manifest: Manifest, key: str, *, tokens: bool) -> "Vocabulary":
        """Collect the labels of a training manifest; HarkError names the line that has none."""
        found = {name for i in range(len(manifest)) for name in labels(manifest, i, key, tokens=tokens)}
        if len(found) < 2:
            raise HarkError(
                f"label={key}: every line of data.train says '{found.pop()}'; there is nothing to learn"
            )
        return cls(key, sorted(found), tokens)

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def encode(self, manifest: Manifest, i: int) -> list[int]:
        """Numbers of the labels of utterance `i`; HarkError when training has not seen one of them."""
        names = labels(manifest, i, self.key, tokens=self.tokens)
        for name in names:
            if name not in self.numbers:
                raise HarkError(
                    f"{manifest.where(i)}: {self.key} '{name}' occurs in no line of data.train; leave this line out, or "
                    "train on some of that label"
                )
        return [self.numbers[name] for name in names]

    def check(self, manifest: Manifest) -> list[list[int]]:
        """Encode every utterance; HarkError as `encode`."""
        return [self.encode(manifest, i) for i in range(len(manifest))]

    def batch(self, manifest: Manifest, rows: Sequence[int]) -> Seq:
        """Labels of some utterances: (B, U, 1)."""
        found = [torch.tensor(self.encode(manifest, i)) for i in rows]
        padded = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)  # (B, U)
        return Seq(padded[..., None], torch.tensor([len(one) for one in found]))

    def save(self, path: Path) -> None:
        facts = {"key": self.key, "tokens": self.tokens, "names": self.names}
        write(path, json.dumps(facts, ensure_ascii=False, indent=1))


def labels(manifest: Manifest, i: int, key: str, *, tokens: bool) -> list[str]:
    """Labels of one utterance: one, or a sequence of tokens."""
    value = manifest.extra(i).get(key)  # noqa: S610  not Django's
    if value is None or value in ("", []):
        there = ", ".join(known(manifest, i))
        raise HarkError(f"{manifest.where(i)}: has no {key}, which label={key} asks for (it has: {there})")
    if tokens:
        return [str(item) for item in value] if isinstance(value, list | str) else list(str(value))
    if isinstance(value, list | dict):
        raise HarkError(
            f"{manifest.where(i)}: {key} is a {type(value).__name__}; a label is one word or number"
        )
    return [str(value)]


def known(manifest: Manifest, i: int) -> Iterator[str]:
    """Keys of a line that could be labels."""
    paths = ("audio_filepath", "audio_filename", "duration", "offset", "id", "feature_path", "feature_key")
    return (key for key in manifest.extra(i) if key not in paths)  # noqa: S610  not Django's
