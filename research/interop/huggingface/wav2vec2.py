"""wav2vec 2.0, HuBERT, WavLM and data2vec-audio: `conv_wave` and `transformer` under Hugging Face's names."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from research import registry
from research.errors import HarkError
from research.interop.huggingface.folder import Contents
from research.interop.huggingface.options import Convert, Dialect, Option, chosen_by
from research.interop.report import Entry, Fate
from research.interop.source import Source
from research.model import Upstream, build_upstream
from research.nn.transformer import NormOrder, PositionNorm
from research.nn.wave import FeatureNorm

FRONTEND, ENCODER = "conv_wave", "transformer"
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
HARMLESS = {  # hark's options that no layer depends on
    "frontend.grad_scale": "for training only",
    "encoder.checkpoint_layers": "for training only",
    "encoder.max_distance": "without buckets there are no distances",
}
BASES = {"wav2vec2": "wav2vec2.", "hubert": "hubert.", "wavlm": "wavlm.", "data2vec-audio": "data2vec_audio."}


def one_width(widths: list[int]) -> int:
    (width,) = set(widths)
    return width


def named(values: dict[Any, Any]) -> tuple[Convert, Convert]:
    """Give the converters of an option whose values have names of their own: theirs -> hark's."""
    return values.__getitem__, {mine: theirs for theirs, mine in values.items()}.__getitem__


SHARED = {
    "conv_dim": Option("frontend.channels", [512], one_width, lambda width: [width]),
    "conv_kernel": Option("frontend.kernels", [10, 3, 3, 3, 3, 2, 2], list, list),
    "conv_stride": Option("frontend.strides", [5, 2, 2, 2, 2, 2, 2], list, list),
    "conv_bias": Option("frontend.bias", default=False),
    "preprocessor.do_normalize": Option("frontend.normalize", default=False),
    "preprocessor.sampling_rate": Option("frontend.sample_rate", 16_000),
    "hidden_size": Option("encoder.dim", 768),
    "num_hidden_layers": Option("encoder.depth", 12),
    "num_attention_heads": Option("encoder.heads", 12),
    "intermediate_size": Option("encoder.ff_dim", 3072),
    "num_conv_pos_embedding_groups": Option("encoder.position_groups", 16),
    "hidden_dropout": Option("encoder.dropout", 0.1),
    "activation_dropout": Option("encoder.dropout_ff", 0.1),
    "attention_dropout": Option("encoder.dropout_att", 0.1),
    "feat_proj_dropout": Option("encoder.dropout_embed", 0.0),
    "layerdrop": Option("encoder.layer_drop", 0.1),
}
WAV2VEC2 = SHARED | {
    "feat_extract_norm": Option("frontend.norm", "group", *named({item.name: item for item in FeatureNorm})),
    "do_stable_layer_norm": Option(
        "encoder.order", False, *named({False: NormOrder.post, True: NormOrder.pre})
    ),
    "num_conv_pos_embeddings": Option("encoder.position_kernel", 128),
}
ONLY = {"hidden_act": "gelu", "feat_extract_activation": "gelu", "layer_norm_eps": 1e-5}
ONE_POSITION = {"encoder.position_layers": 1, "encoder.position_norm": PositionNorm.weight}
FAR = {
    "num_buckets": Option("encoder.buckets", 320),
    "max_bucket_distance": Option("encoder.max_distance", 800),
}


def dialect(model_type: str, options: dict[str, Option], implied: dict[str, Any], **only: Any) -> Dialect:
    return Dialect(model_type, FRONTEND, ENCODER, options, ONLY | only, implied)


DIALECTS = {
    each.model_type: each
    for each in (
        dialect("wav2vec2", WAV2VEC2, ONE_POSITION | {"encoder.buckets": 0}, adapter_attn_dim=None),
        dialect(
            "hubert",
            WAV2VEC2,
            ONE_POSITION | {"encoder.buckets": 0},
            feat_proj_layer_norm=True,
            conv_pos_batch_norm=False,
        ),
        dialect("wavlm", WAV2VEC2 | FAR, ONE_POSITION),
        dialect(
            "data2vec-audio",
            SHARED
            | {
                "conv_pos_kernel_size": Option("encoder.position_kernel", 19),
                "num_conv_pos_embeddings": Option("encoder.position_layers", 5),
            },
            {
                "frontend.norm": FeatureNorm.layer,
                "encoder.order": NormOrder.post,
                "encoder.position_norm": PositionNorm.layer,
                "encoder.buckets": 0,
            },
        ),
    )
}
CLASSES = {"wav2vec2": "Wav2Vec2Model", "wavlm": "WavLMModel", "data2vec-audio": "Data2VecAudioModel"}


def read(path: Path, contents: Contents) -> Source:
    """Say in hark's terms what the files hold. HarkError: an option that hark has not, a weight without a place."""
    kind = contents.config["model_type"]
    processor = {f"preprocessor.{key}": value for key, value in contents.processor.items()}
    frontend, encoder, entries = DIALECTS[kind].read(contents.config | processor)
    with torch.device("meta"):
        wanted = build_upstream(frontend, encoder).state_dict()
    left, heads = split(contents.state, BASES[kind])
    entries += [Entry(key, Fate.ignored, "of a head") for key in heads]
    state = {}
    for name in wanted:
        keys = theirs(name, encoder)
        entries += [
            Entry(left[key][0], Fate.used, name) if key in left else Entry(key, Fate.missing, name)
            for key in keys
        ]
        parts = [left.pop(key)[1] for key in keys if key in left]
        if len(parts) == len(keys):
            state[name] = torch.cat(parts)
    for key, (original, _) in left.items():
        if key.split(".")[0] not in BESIDE:
            raise HarkError(f"{original}: a weight that hark has no place for")
        entries.append(Entry(original, Fate.ignored, BESIDE[key.split(".")[0]]))
    return Source(path, f"Hugging Face {kind}", frontend, encoder, state, entries)


def split(state: dict[str, Tensor], base: str) -> tuple[dict[str, tuple[str, Tensor]], list[str]]:
    """Give the base model's weights by the names of one that has no head, with the names they had; and the head's.

    With a head, the base model's names begin with `base`. Weight norm gets the names that torch gives it today.
    """
    headless = not any(key.startswith(base) for key in state)
    inside: dict[str, tuple[str, Tensor]] = {}
    for key, value in state.items():
        if headless or key.startswith(base):
            name = key.removeprefix(base)
            for old, new in WEIGHT_NORM.items():
                name = name.replace(old, new)
            inside[name] = (key, value)
    return inside, [key for key in state if not (headless or key.startswith(base))]


def write(upstream: Upstream) -> tuple[Contents, list[Entry]]:
    """Say in theirs what an upstream is. HarkError: a frontend or an option that they have not.

    What is trained on top of it is not in it: their SpecAugment is off, for there is no vector for masked frames.
    """
    mine = chosen_by(upstream)
    if not isinstance(upstream.frontend, registry.find("frontend", FRONTEND)):
        name = type(upstream.frontend).__name__
        raise HarkError(
            f"frontend {name}: Hugging Face reads waveforms here; only {FRONTEND} can be exported"
        )
    kind = "wav2vec2"
    if mine["encoder.buckets"]:
        kind = "wavlm"
    if mine["encoder.position_norm"] is PositionNorm.layer:
        kind = "data2vec-audio"
    values, entries = DIALECTS[kind].write(upstream, HARMLESS)
    state: dict[str, Tensor] = {}
    for name, value in upstream.state_dict().items():
        keys = theirs(name, upstream.encoder.cfg)
        state |= dict(zip(keys, value.chunk(len(keys)), strict=True))
        entries += [Entry(name, Fate.used, key) for key in keys]
    return Contents(config_json(kind, values), processor_json(values), state), entries


def config_json(kind: str, values: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in values.items() if not key.startswith("preprocessor.")}
    layers = len(own["conv_kernel"])
    return own | {
        "architectures": [CLASSES[kind]],
        "conv_dim": own["conv_dim"] * layers,
        "num_feat_extract_layers": layers,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }


def processor_json(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "return_attention_mask": values.get("feat_extract_norm") != "group",
        "do_normalize": values["preprocessor.do_normalize"],
        "sampling_rate": values["preprocessor.sampling_rate"],
    }


def theirs(name: str, encoder: Any) -> list[str]:
    """Give Hugging Face's keys for one key of hark's state; more than one are stacked."""
    numbers = re.findall(r"(?<=\.)\d+(?=\.)", name)
    template = re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)
    names = NAMES | POSITIONS[encoder.position_norm]
    module = next(module for module in names if f"{template}.".startswith(f"{module}."))
    return [key.format(*numbers) + template.removeprefix(module) for key in names[module]]
