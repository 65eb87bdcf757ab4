"""wav2vec 2.0, HuBERT, WavLM and data2vec-audio: `conv_wave` and `transformer` under Hugging Face's names."""

from dataclasses import replace
from pathlib import Path

import torch

from research import registry
from research.errors import HarkError
from research.interop.huggingface.folder import Contents
from research.interop.huggingface.options import chosen_by
from research.interop.huggingface.wav2vec2_options import (
    DIALECTS,
    ENCODER,
    FRONTEND,
    HARMLESS,
    config_json,
    processor_json,
)
from research.interop.rename import account, give, take
from research.interop.report import Entry, Fate
from research.interop.source import Source
from research.model import Upstream, build_upstream
from research.nn.transformer import PositionNorm

__all__ = ["ENCODER", "read", "write"]

NAMES = {  # hark's module or parameter -> Hugging Face's; {} is an index
    "frontend.layers.{}.conv": ["feature_extractor.conv_layers.{}.conv"],
    "frontend.layers.{}.norm": ["feature_extractor.conv_layers.{}.layer_norm"],
    "encoder.embed_norm": ["feature_projection.layer_norm"],
    "encoder.projection": ["feature_projection.projection"],
    "encoder.norm": ["encoder.layer_norm"],
    "encoder.distances": ["encoder.layers.0.attention.rel_attn_embed"],
    "encoder.layers.{}.attention.qkv": [
        "encoder.layers.{}.attention.q_proj",
        "encoder.layers.{}.attention.k_proj",
        "encoder.layers.{}.attention.v_proj",
    ],
    "encoder.layers.{}.attention.out": ["encoder.layers.{}.attention.out_proj"],
    "encoder.layers.{}.attention.gate": ["encoder.layers.{}.attention.gru_rel_pos_linear"],
    "encoder.layers.{}.attention.gate_scale": ["encoder.layers.{}.attention.gru_rel_pos_const"],
    "encoder.layers.{}.attention_norm": ["encoder.layers.{}.layer_norm"],
    "encoder.layers.{}.up": ["encoder.layers.{}.feed_forward.intermediate_dense"],
    "encoder.layers.{}.down": ["encoder.layers.{}.feed_forward.output_dense"],
    "encoder.layers.{}.norm": ["encoder.layers.{}.final_layer_norm"],
}
POSITIONS = {  # the same of the position convolutions: one with a norm of its weights, or several
    PositionNorm.weight: {
        "encoder.positions.{}.conv.bias": ["encoder.pos_conv_embed.conv.bias"],
        "encoder.positions.{}.gain": ["encoder.pos_conv_embed.conv.parametrizations.weight.original0"],
        "encoder.positions.{}.conv.weight": ["encoder.pos_conv_embed.conv.parametrizations.weight.original1"],
    },
    PositionNorm.layer: {"encoder.positions.{}.conv": ["encoder.pos_conv_embed.layers.{}.conv"]},
}
WEIGHT_NORM = {
    "conv.weight_g": "conv.parametrizations.weight.original0",
    "conv.weight_v": "conv.parametrizations.weight.original1",
}
BESIDE = {  # first names of weights that are neither of the frontend nor of the encoder
    "masked_spec_embed": "what an objective puts on masked frames",
    "adapter": "comes after the last layer",
}
BASES = {"wav2vec2": "wav2vec2.", "hubert": "hubert.", "wavlm": "wavlm.", "data2vec-audio": "data2vec_audio."}


def read(path: Path, contents: Contents) -> Source:
    """Say in hark's terms what the files hold; HarkError names the option or key that hark has not."""
    kind = contents.config["model_type"]
    processor = {f"preprocessor.{key}": value for key, value in contents.processor.items()}
    frontend, encoder, entries = DIALECTS[kind].read(contents.config | processor)
    with torch.device("meta"):
        upstream = build_upstream(frontend, encoder)
    prefix = BASES[kind] if any(key.startswith(BASES[kind]) for key in contents.state) else ""
    original = {todays(key): key for key in contents.state}
    state = {key: contents.state[old] for key, old in original.items() if key.startswith(prefix)}
    table = NAMES | POSITIONS[chosen_by(upstream)["encoder.position_norm"]]
    moved, used, left = take(upstream.state_dict(), state, table, prefix)
    entries += [replace(entry, key=original[entry.key]) for entry in used]
    entries += account(left, BESIDE, prefix)
    entries += [Entry(key, Fate.ignored, "of a head") for key in contents.state if not key.startswith(prefix)]
    return Source(path, f"Hugging Face {kind}", frontend, encoder, moved, entries)


def todays(key: str) -> str:
    """Give a key as torch names weight norm today."""
    for old, new in WEIGHT_NORM.items():
        key = key.replace(old, new)
    return key


def write(upstream: Upstream) -> tuple[Contents, list[Entry]]:
    """Say in theirs what an upstream is; HarkError names the frontend or option that they have not.

    What is trained on top is not in it: their SpecAugment is off, for there is no vector for masked frames.
    """
    if not isinstance(upstream.frontend, registry.find("frontend", FRONTEND)):
        name = type(upstream.frontend).__name__
        raise HarkError(
            f"frontend {name}: Hugging Face reads waveforms here; only {FRONTEND} can be exported"
        )
    mine = chosen_by(upstream)
    kind = "wavlm" if mine["encoder.buckets"] else "wav2vec2"
    if mine["encoder.position_norm"] is PositionNorm.layer:
        kind = "data2vec-audio"
    values, entries = DIALECTS[kind].write(upstream, HARMLESS)
    state = upstream.state_dict()
    entries += [Entry(name, Fate.used, "a weight of the same value") for name in state]
    table = NAMES | POSITIONS[mine["encoder.position_norm"]]
    given = give(state, table, lambda _, value: value)
    return Contents(config_json(kind, values), processor_json(values), given), entries
