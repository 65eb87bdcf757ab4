"""Folders of Hugging Face's transformers, read and written without that library."""

from pathlib import Path
from typing import Protocol

from research import registry
from research.errors import HarkError
from research.interop.huggingface import w2v_bert, wav2vec2
from research.interop.huggingface.folder import Contents, read_contents, write_contents
from research.interop.report import Entry
from research.interop.source import Source
from research.model import Upstream


class Family(Protocol):
    """A module that knows some `model_type`s of config.json."""

    ENCODER: str  # the plugin that computes them

    def read(self, path: Path, contents: Contents) -> Source:
        """Say in hark's terms what the files hold; HarkError names the option or key that hark has not."""

    def write(self, upstream: Upstream) -> tuple[Contents, list[Entry]]:
        """Say in theirs what an upstream is; HarkError names the option that they have not."""


FAMILIES: dict[str, Family] = {
    "wav2vec2": wav2vec2,
    "hubert": wav2vec2,
    "wavlm": wav2vec2,
    "data2vec-audio": wav2vec2,
    "wav2vec2-bert": w2v_bert,
}


def read(folder: Path) -> Source:
    """Read the model in a folder that `save_pretrained` wrote, with or without a head, in one file or in shards.

    HarkError: a file is missing or damaged, the model is of no known kind, or it has what hark has not.
    """
    registry.load_plugins()
    contents = read_contents(folder)
    kind = str(contents.config.get("model_type"))
    if kind not in FAMILIES:
        raise HarkError(f"{folder}: model_type={kind}: hark opens {', '.join(FAMILIES)}")
    try:
        return FAMILIES[kind].read(folder, contents)
    except HarkError as error:
        raise HarkError(f"{folder}: {error}") from None


def write(upstream: Upstream, folder: Path) -> list[Entry]:
    """Write a folder that `transformers.AutoModel.from_pretrained` opens and that computes the same layers.

    Gives what became of every option and weight. HarkError when Hugging Face's model cannot be what the upstream is.
    """
    registry.load_plugins()
    for family in FAMILIES.values():
        if isinstance(upstream.encoder, registry.find("encoder", family.ENCODER)):
            contents, entries = family.write(upstream)
            write_contents(folder, contents)
            return entries
    name = type(upstream.encoder).__name__
    raise HarkError(f"encoder {name}: Hugging Face has no model of this kind; export to another format")
