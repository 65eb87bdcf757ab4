"""fairseq2's asset cards, read as files: without a network, and without the seconds that importing fairseq2 takes."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from research.errors import HarkError


def find(name: str) -> dict[str, Any] | None:
    """Give the card of that name, the user's own before fairseq2's; None when there is none."""
    for folder in folders():
        for file in sorted(folder.rglob("*.y*ml")):
            for card in read(file):
                if card.get("name") == name:
                    return card
    return None


def folders() -> Iterator[Path]:
    """Where fairseq2 looks for cards, those that count first."""
    config = os.environ.get("XDG_CONFIG_HOME", "~/.config")
    places = [
        os.environ.get("FAIRSEQ2_USER_ASSET_DIR", f"{config}/fairseq2/assets"),
        os.environ.get("FAIRSEQ2_ASSET_DIR", "/etc/fairseq2/assets"),
    ]
    yield from (Path(place).expanduser() for place in places)
    package = find_spec("fairseq2")
    for place in (package.submodule_search_locations or []) if package else []:
        yield Path(place) / "assets" / "cards"


def read(file: Path) -> list[dict[str, Any]]:
    """Give the cards in a file; HarkError when it is no YAML."""
    try:
        cards = list(yaml.safe_load_all(file.read_text()))
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise HarkError(f"{file}: is no YAML of asset cards: {str(error).splitlines()[0]}") from None
    return [{"folder": file.parent, **card} for card in cards if isinstance(card, dict)]
