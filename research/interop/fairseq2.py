"""wav2vec 2.0 of fairseq2 (and fairseq): a checkpoint beside its asset card, read and written without that library."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import torch
import yaml
from torch import Tensor

from research import files, registry
from research.engine import cards
from research.engine.weights import MODEL
from research.errors import HarkError
from research.interop.fairseq2_names import (
    ARCHS,
    BESIDE,
    FRONTEND,
    HARMLESS,
    dialect,
    gather,
    modern,
    names,
    spread,
)
from research.interop.huggingface.folder import read_weights
from research.interop.rename import account, give, take
from research.interop.report import Entry, Fate
from research.interop.source import Source
from research.model import Upstream, build_upstream
from research.nn.wave import FeatureNorm

CARDS, WEIGHTS = (".yaml", ".yml"), ".pt"
OVERRIDES = ("model_config", "model_config_override", "model_config_overrides")


def find(path: Path) -> bool:
    """Whether a path is the name of a card, the file of one, a checkpoint with a card, or a step of a fairseq2 run."""
    if path.is_file():
        return path.suffix in CARDS or (path.suffix == WEIGHTS and card_of(path) is not None)
    return (path / MODEL).is_file() or (len(path.parts) == 1 and cards.find(str(path)) is not None)


def read(path: str | Path) -> Source:
    """Read a checkpoint of the family wav2vec2, by its card or by its file with the card beside it (same name, .yaml).

    HarkError: no card is there, its checkpoint is to be downloaded first, the model is none that hark has.
    """
    registry.load_plugins()
    path = Path(path)
    card, file = locate(path)
    try:
        frontend, encoder, entries = options(card)
        with torch.device("meta"):
            target = build_upstream(frontend, encoder).state_dict()
        with torch.serialization.safe_globals([argparse.Namespace]):  # what fairseq keeps its options in
            values = read_weights(file)
        state = modern({key: value.float() for key, value in tensors(values).items()}, encoder.order)
        moved, used, left = take(target, state, names(frontend, encoder))
        entries = [*entries, *used, *account(left, BESIDE)]
    except HarkError as error:
        raise HarkError(f"{path}: {error}") from None
    return Source(path, "fairseq2 wav2vec2", frontend, encoder, moved, entries)


def tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Give the model's weights, which may stand beside other things."""
    state = values.get("model", values)
    if not isinstance(state, dict):
        raise HarkError("holds no weights under the key 'model'")
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def locate(path: Path) -> tuple[dict[str, Any], Path]:
    """Give the card and the file of weights that a path stands for."""
    if path.is_file() and path.suffix in CARDS:
        found = cards.read(path)
        if len(found) != 1:
            raise HarkError(f"{path}: holds {len(found)} asset cards; give a file with one, or a card's name")
        return found[0], checkpoint(found[0])
    if path.exists():
        card = card_of(path)
        if card is None:
            raise HarkError(
                f"{path}: no asset card is beside it; write {path.with_suffix('.yaml')} (model_arch: base)"
            )
        return card, path / MODEL if path.is_dir() else path
    card = cards.find(str(path))
    if card is None:
        raise HarkError(f"{path}: nothing is here, and no card of fairseq2 has this name")
    return card, checkpoint(card)


def card_of(path: Path) -> dict[str, Any] | None:
    """Give the card beside a checkpoint, or the one that fairseq2 writes for the steps of a run."""
    files_of_cards = (path.with_suffix(".yaml"), path.parent / "model.yaml")
    found = (card for file in files_of_cards if file.is_file() for card in cards.read(file))
    return next(found, None)


def checkpoint(card: Mapping[str, Any]) -> Path:
    """Give the file that a card names; HarkError when it has to be fetched."""
    uri = str(card.get("checkpoint"))
    if urlparse(uri).scheme in ("http", "https", "hg", "s3"):
        name = uri.rsplit("/", 1)[-1]
        raise HarkError(
            f"{card.get('name')}: download {uri}, write a card beside it ({Path(name).with_suffix('.yaml')}, "
            f"model_family: wav2vec2, model_arch: {card.get('model_arch')}) and give the path of {name}"
        )
    path = Path(card["folder"]) / unquote(uri.removeprefix("file://"))
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise HarkError(f"{card.get('name')}: its checkpoint {file} is not there; correct the card")
    return file


def options(card: Mapping[str, Any]) -> tuple[Any, Any, list[Entry]]:
    """Translate what a card says of its model; HarkError names the first option that hark has not."""
    family, arch = card.get("model_family"), card.get("model_arch", "base")
    if family != "wav2vec2":
        raise HarkError(f"model_family={family}: hark reads wav2vec2 only")
    if arch not in ARCHS:
        raise HarkError(f"model_arch={arch}: hark knows {', '.join(ARCHS)}")
    told: Any = next((card[key] for key in OVERRIDES if key in card), {})
    encoder = ARCHS[arch] | flat(flat(told).get("encoder_config", {}))
    values = spread(encoder)
    return dialect(values).read(values)


def flat(overrides: Any) -> dict[str, Any]:
    """Give a section of a card with what fairseq2's `_set_` adds to it; HarkError when it is none."""
    if not isinstance(overrides, Mapping):
        raise HarkError(f"{overrides}: is no section of options")
    return {key: value for key, value in overrides.items() if key != "_set_"} | dict(
        overrides.get("_set_", {})
    )


def write(upstream: Upstream, out: Path) -> list[Entry]:
    """Write the checkpoint `out` (.pt) and its card beside it; the model of fairseq2 loads all of it.

    What only pretraining uses (masker, quantizer, projections) is new. HarkError: an option that fairseq2 has not.
    """
    if out.suffix != WEIGHTS:
        raise HarkError(f"{out}: fairseq2's checkpoints end in .pt")
    if not isinstance(upstream.frontend, registry.find("frontend", FRONTEND)):
        raise HarkError(
            f"frontend {type(upstream.frontend).__name__}: fairseq2's wav2vec2 reads {FRONTEND} only"
        )
    frontend: Any = upstream.frontend.cfg
    encoder: Any = upstream.encoder.cfg
    told = {
        "feature_extractor_layer_norm_convs": frontend.norm is FeatureNorm.layer,
        "pos_encoder_depth": encoder.position_layers,
    }
    values, entries = dialect(told).write(upstream, HARMLESS)
    config = gather(values)
    spread(config)
    state = give(upstream.state_dict(), names(frontend, encoder), lambda _, value: value.cpu())
    entries += [Entry(key, Fate.used, "a weight of the same value") for key in upstream.state_dict()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new = pretraining(config["model_dim"], config["feature_dim"])
    card = {
        "name": out.stem,
        "model_family": "wav2vec2",
        "model_arch": "base",
        "model_config": {"encoder_config": config},
        "checkpoint": out.name,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    torch.save({"model": state | new}, part)
    part.replace(out)
    files.write(out.with_suffix(".yaml"), yaml.safe_dump(card, sort_keys=False))
    return entries


def pretraining(dim: int, features: int) -> dict[str, Tensor]:
    """Draw what fairseq2's model holds beside the encoder: 2 x 320 codes of 128, compared in 256 dimensions."""
    return {
        "masker.temporal_mask_embed": torch.rand(dim),
        "quantizer.entries": torch.rand(1, 640, 128),
        "quantizer.num_updates": torch.zeros((), dtype=torch.int64),
        "quantizer.entry_proj.weight": torch.randn(640, features),
        "quantizer.entry_proj.bias": torch.zeros(640),
        "final_proj.weight": torch.randn(256, dim) * dim**-0.5,
        "final_proj.bias": torch.zeros(256),
        "final_target_proj.weight": torch.randn(256, 256) / 16,
        "final_target_proj.bias": torch.zeros(256),
    }
