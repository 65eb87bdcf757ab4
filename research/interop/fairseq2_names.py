"""What fairseq2's wav2vec 2.0 calls the options and weights of `conv_wave` and `transformer`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from research.errors import HarkError
from research.interop.huggingface.options import Dialect, Option, some
from research.interop.rename import Table
from research.nn.transformer import NormOrder, PositionNorm
from research.nn.wave import FeatureNorm

FRONTEND, ENCODER = "conv_wave", "transformer"
CONVOLUTIONS = [[512, 10, 5]] + [[512, 3, 2]] * 4 + [[512, 2, 2]] * 2  # channels, kernel, stride
LARGE = {
    "model_dim": 1024,
    "num_encoder_layers": 24,
    "num_encoder_attn_heads": 16,
    "ffn_inner_dim": 4096,
    "dropout_p": 0.0,
    "layer_drop_p": 0.2,
}
ARCHS: dict[str, dict[str, Any]] = {  # encoder_config of each, where it is not base's
    "base": {},
    "large": LARGE,
    "large_lv60k": LARGE
    | {
        "layer_norm_features": False,
        "feature_extractor_bias": True,
        "feature_extractor_layer_norm_convs": True,
        "layer_drop_p": 0.0,
        "norm_order": "PRE",
    },
}
ORDERS = {"POST": NormOrder.post, "PRE": NormOrder.pre}
NORMS = {False: FeatureNorm.group, True: FeatureNorm.layer}


def one_of(values: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Give the converters of an option whose values have names of their own: theirs -> hark's."""
    return values.__getitem__, {mine: theirs for theirs, mine in values.items()}.__getitem__


OPTIONS = {
    "channels": Option("frontend.channels", 512),  # this and the next two: feature_extractor_layer_descs
    "kernels": Option("frontend.kernels", [], list, list),
    "strides": Option("frontend.strides", [], list, list),
    "feature_extractor_bias": Option("frontend.bias", False),
    "feature_extractor_layer_norm_convs": Option("frontend.norm", False, *one_of(NORMS)),
    "feature_grad_scale": Option("frontend.grad_scale", 0.1),
    "model_dim": Option("encoder.dim", 768),
    "num_encoder_layers": Option("encoder.depth", 12),
    "num_encoder_attn_heads": Option("encoder.heads", 12),
    "ffn_inner_dim": Option("encoder.ff_dim", 3072),
    "norm_order": Option("encoder.order", "POST", *one_of(ORDERS)),
    "pos_encoder_depth": Option("encoder.position_layers", 1, some, some),
    "position_kernel": Option("encoder.position_kernel", 128),  # pos_conv_kernel_size, of one layer
    "num_pos_conv_groups": Option("encoder.position_groups", 16),
    "first_pass_dropout_p": Option("encoder.dropout_embed", 0.0),
    "dropout_p": Option("encoder.dropout", 0.1),
    "attn_dropout_p": Option("encoder.dropout_att", 0.1),
    "ffn_inner_dropout_p": Option("encoder.dropout_ff", 0.0),
    "layer_drop_p": Option("encoder.layer_drop", 0.05),
}
ONLY = {"use_fbank": False, "use_conformer": False, "pos_encoder_type": "conv"}
HARMLESS = {  # hark's options that no layer depends on, or that fairseq2 has elsewhere
    "frontend.normalize": "fairseq2 normalises audio in its data section: set normalize_audio there",
    "encoder.checkpoint_layers": "for training only",
    "encoder.max_distance": "without buckets there are no distances",
}


def dialect(encoder: Mapping[str, Any]) -> Dialect:
    """How an encoder_config says it. Models with layer-normed convolutions were trained on normalised audio."""
    implied = {
        "frontend.normalize": encoder.get("feature_extractor_layer_norm_convs", False),
        "encoder.buckets": 0,
        "encoder.position_norm": (
            PositionNorm.weight if encoder.get("pos_encoder_depth", 1) == 1 else PositionNorm.layer
        ),
    }
    return Dialect("wav2vec2", FRONTEND, ENCODER, OPTIONS, ONLY, implied, "fairseq2's")


def spread(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder_config with one key for each of hark's; HarkError for combinations that hark has not."""
    values = dict(encoder)
    descs = values.pop("feature_extractor_layer_descs", CONVOLUTIONS)
    widths = {desc[0] for desc in descs} | {values.pop("feature_dim", 512)}
    post = values.get("norm_order", "POST") == "POST"
    if len(widths) > 1:
        raise HarkError(f"feature_extractor_layer_descs={descs}: hark has convolutions of one width only")
    if values.get("model_dim", 768) in widths:
        raise HarkError(f"feature_dim={widths.pop()}: is model_dim, and hark always projects features")
    if values.pop("layer_norm_features", True) is not post:
        raise HarkError(f"layer_norm_features={not post}: hark has {post} only with this norm_order")
    total, layers = values.pop("pos_conv_kernel_size", 128), values.get("pos_encoder_depth", 1)
    kernel = total if layers == 1 else max(3, total // layers)
    if layers > 1 and kernel % 2 == 0:
        raise HarkError(
            f"pos_conv_kernel_size={total}: hark has odd kernels only where there are {layers} layers"
        )
    kernels, strides = [desc[1] for desc in descs], [desc[2] for desc in descs]
    return values | {
        "channels": widths.pop(),
        "kernels": kernels,
        "strides": strides,
        "position_kernel": kernel,
    }


def gather(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `spread`."""
    encoder = {key: value for key, value in values.items() if key != "model_type"}
    channels, kernels, strides = (encoder.pop(key) for key in ("channels", "kernels", "strides"))
    return encoder | {
        "feature_dim": channels,
        "feature_extractor_layer_descs": [[channels, k, s] for k, s in zip(kernels, strides, strict=True)],
        "layer_norm_features": encoder["norm_order"] == "POST",
        "pos_conv_kernel_size": encoder.pop("position_kernel") * encoder["pos_encoder_depth"],
    }


LAYER, FIRST = "encoder.layers.{}", "encoder_frontend"
NAMES: Table = {
    "frontend.layers.{}.conv": [f"{FIRST}.feature_extractor.layers.{{}}.conv"],
    "encoder.embed_norm": [f"{FIRST}.post_extract_layer_norm"],
    "encoder.projection": [f"{FIRST}.model_dim_proj"],
    f"{LAYER}.attention.qkv": [f"{LAYER}.self_attn.{which}_proj" for which in "qkv"],
    f"{LAYER}.attention.out": [f"{LAYER}.self_attn.output_proj"],
    f"{LAYER}.attention_norm": [f"{LAYER}.self_attn_layer_norm"],
    f"{LAYER}.up": [f"{LAYER}.ffn.inner_proj"],
    f"{LAYER}.down": [f"{LAYER}.ffn.output_proj"],
    f"{LAYER}.norm": [f"{LAYER}.ffn_layer_norm"],
}
POSITION, STACKED = f"{FIRST}.pos_encoder.conv", f"{FIRST}.pos_encoder.layers.{{}}.conv"
POSITIONS: dict[PositionNorm, Table] = {
    PositionNorm.weight: {
        "encoder.positions.{}.conv.bias": [f"{POSITION}.bias"],
        "encoder.positions.{}.gain": [f"{POSITION}.weight_g"],
        "encoder.positions.{}.conv.weight": [f"{POSITION}.weight_v"],
    },
    PositionNorm.layer: {"encoder.positions.{}.conv": [STACKED]},
}
BESIDE = dict.fromkeys(
    ("masker.", "quantizer.", "final_proj.", "final_target_proj."), "of a pretraining head"
)


def names(frontend: Any, encoder: Any) -> Table:
    """Give the table of weights for one pair of configs."""
    norm = "group_norm" if frontend.norm is FeatureNorm.group else "layer_norm"
    last = FIRST if encoder.order is NormOrder.post else "encoder"
    return {
        **NAMES,
        **POSITIONS[encoder.position_norm],
        "frontend.layers.{}.norm": [f"{FIRST}.feature_extractor.layers.{{}}.{norm}"],
        "encoder.norm": [f"{last}.layer_norm"],
    }


FAIRSEQ: tuple[tuple[str, str], ...] = (  # fairseq's keys -> fairseq2's
    (r"^encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"encoder.layers.\1.self_attn.output_proj."),
    (r"^encoder\.layers\.(\d+)\.fc1\.", r"encoder.layers.\1.ffn.inner_proj."),
    (r"^encoder\.layers\.(\d+)\.fc2\.", r"encoder.layers.\1.ffn.output_proj."),
    (r"^encoder\.layers\.(\d+)\.final_layer_norm\.", r"encoder.layers.\1.ffn_layer_norm."),
    (r"^encoder\.pos_conv\.(\d+)\.0\.", rf"{FIRST}.pos_encoder.layers.\1.conv."),
    (r"^encoder\.pos_conv\.0\.", f"{POSITION}."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", rf"{FIRST}.feature_extractor.layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2\.1\.", rf"{FIRST}.feature_extractor.layers.\1.layer_norm."),
    (r"^feature_extractor\.conv_layers\.0\.2\.", f"{FIRST}.feature_extractor.layers.0.group_norm."),
    (r"^layer_norm\.", f"{FIRST}.post_extract_layer_norm."),
    (r"^post_extract_proj\.", f"{FIRST}.model_dim_proj."),
    (r"^mask_emb", "masker.temporal_mask_embed"),
    (r"^project_q\.", "final_target_proj."),
)


def modern(state: Mapping[str, Tensor], order: NormOrder) -> dict[str, Tensor]:
    """Give fairseq's keys the names of fairseq2."""
    if "mask_emb" not in state:
        return {key.removeprefix("module."): value for key, value in state.items()}
    table = FAIRSEQ
    if order is NormOrder.post:
        table = ((r"^encoder\.layer_norm\.", f"{FIRST}.layer_norm."), *FAIRSEQ)
    renamed = {}
    for key, value in state.items():
        pattern, wanted = next((pair for pair in table if re.search(pair[0], key)), ("^", ""))
        renamed[re.sub(pattern, wanted, key)] = value
    return renamed
