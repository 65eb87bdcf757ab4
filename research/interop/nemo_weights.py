"""NeMo's weights under hark's names, every key accounted for."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from research.errors import HarkError
from research.interop.report import Entry, Fate

BLOCK = {  # hark's module or parameter in a block -> NeMo's
    "ff1.norm": ["norm_feed_forward1"],
    "ff1.up": ["feed_forward1.linear1"],
    "ff1.down": ["feed_forward1.linear2"],
    "attention_norm": ["norm_self_att"],
    "attention.qkv": ["self_attn.linear_q", "self_attn.linear_k", "self_attn.linear_v"],
    "attention.out": ["self_attn.linear_out"],
    "attention.distance": ["self_attn.linear_pos"],
    "attention.content_bias": ["self_attn.pos_bias_u"],
    "attention.distance_bias": ["self_attn.pos_bias_v"],
    "convolution.norm": ["norm_conv"],
    "convolution.gate": ["conv.pointwise_conv1"],
    "convolution.depthwise": ["conv.depthwise_conv"],
    "convolution.inner_norm": ["conv.batch_norm"],
    "convolution.out": ["conv.pointwise_conv2"],
    "ff2.norm": ["norm_feed_forward2"],
    "ff2.up": ["feed_forward2.linear1"],
    "ff2.down": ["feed_forward2.linear2"],
    "norm": ["norm_out"],
}
OUTSIDE = {  # the same, outside the blocks
    "encoder.subsampling.out": ["encoder.pre_encode.out"],
    "head": ["decoder.decoder_layers.0"],
    "mask_token.vector": ["mask_processor.mask_embedding"],
    "quantizer.projection": ["quantizer.proj.weight"],
    "quantizer.codebook": ["quantizer.codebooks"],
}
CONSTANTS = {"preprocessor.featurizer.window": "window", "preprocessor.featurizer.fb": "filters"}


def sources(name: str) -> list[str]:
    """Give NeMo's keys for one key of hark's state dict."""
    if stage := re.fullmatch(r"encoder\.subsampling\.stages\.(\d+)\.(?:(\d)\.)?(\w+)", name):
        index, part, kind = stage.groups()
        place = 2 * int(index) if part is None else 3 * int(index) - 1 + int(part)  # NeMo counts the ReLUs
        return [f"encoder.pre_encode.conv.{place}.{kind}"]
    table, prefix, inner = OUTSIDE, "", name
    if block := re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", name):
        table, prefix, inner = BLOCK, f"encoder.layers.{block[1]}.", block[2]
    if inner in table:
        return [prefix + key for key in table[inner]]
    module, _, kind = inner.rpartition(".")
    return [f"{prefix}{key}.{kind}" for key in table[module]]


def convert(name: str, value: Tensor, books: int) -> Tensor:
    """Bring one weight into hark's axis order."""
    if name == "quantizer.projection":
        return value.unflatten(0, (books, -1)).mT  # (G * C, dim_in) -> (G, dim_in, C)
    if name.startswith("head."):
        return value.unflatten(0, (-1, books)).transpose(0, 1).flatten(0, 1)  # (V * G, ...) -> (G * V, ...)
    return value


def move_weights(
    target: Mapping[str, Tensor], state: Mapping[str, Tensor], frontend: nn.Module
) -> tuple[dict[str, Tensor], list[Entry]]:
    """Bring `state` under the names and into the shapes of `target`, which may lie on the meta device.

    HarkError for a key that is missing, unknown or misshapen, and for constants that differ from the frontend's.
    """
    left = dict(state)
    books = len(target["quantizer.codebook"]) if "quantizer.codebook" in target else 1
    moved: dict[str, Tensor] = {}
    entries: list[Entry] = []
    for name, wanted in target.items():
        keys = sources(name)
        entries += [Entry(key, Fate.used if key in left else Fate.missing, name) for key in keys]
        parts = [left.pop(key) for key in keys if key in left]
        if len(parts) == len(keys):
            value = convert(name, torch.cat(parts), books)
            if value.squeeze().shape != wanted.squeeze().shape:
                shapes = f"{tuple(value.shape)} where the config asks for {tuple(wanted.shape)}"
                raise HarkError(f"{keys[0]}: {name} would be {shapes}")
            moved[name] = value.reshape(wanted.shape)
    missing = [entry.key for entry in entries if entry.fate is Fate.missing]
    if missing:
        raise HarkError(f"{len(missing)} weights are missing, the first is '{missing[0]}'")
    return moved, entries + [account(key, value, frontend) for key, value in left.items()]


def account(key: str, value: Tensor, frontend: nn.Module) -> Entry:
    """Say why hark has no place for a key; HarkError when there is no reason."""
    if key.endswith(".num_batches_tracked"):
        return Entry(key, Fate.ignored, "a count that a constant momentum does not need")
    if key in CONSTANTS:
        mine = frontend.get_buffer(CONSTANTS[key])
        theirs = value.squeeze(0).T if value.ndim > 1 else value
        if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=0, atol=1e-6):
            raise HarkError(f"{key}: differs from what model_config.yaml's preprocessor defines")
        return Entry(key, Fate.ignored, "computed from the config, and equal")
    raise HarkError(f"{key}: a weight that hark has no place for")
