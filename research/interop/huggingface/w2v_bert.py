"""wav2vec2-bert (w2v-BERT 2.0): `fbank` and `w2v_bert_conformer` under Hugging Face's names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from research import registry
from research.errors import HarkError
from research.interop.huggingface.folder import Contents
from research.interop.huggingface.options import Dialect, Option
from research.interop.rename import account, conformer_shape, give, take
from research.interop.report import Entry, Fate
from research.interop.source import Source
from research.model import Upstream, build_upstream

ENCODER, FRONTEND = "w2v_bert_conformer", "fbank"
HEADED = "wav2vec2_bert."  # before every key of a model with a head
LAYER = "encoder.layers.{}"
BLOCK = {  # hark's module or parameter in a block -> Hugging Face's
    "ff1.norm": ["ffn1_layer_norm"],
    "ff1.up": ["ffn1.intermediate_dense"],
    "ff1.down": ["ffn1.output_dense"],
    "attention_norm": ["self_attn_layer_norm"],
    "attention.qkv": ["self_attn.linear_q", "self_attn.linear_k", "self_attn.linear_v"],
    "attention.out": ["self_attn.linear_out"],
    "attention.distances": ["self_attn.distance_embedding.weight"],
    "convolution.norm": ["conv_module.layer_norm"],
    "convolution.gate": ["conv_module.pointwise_conv1"],
    "convolution.depthwise": ["conv_module.depthwise_conv"],
    "convolution.inner_norm": ["conv_module.depthwise_layer_norm"],
    "convolution.out": ["conv_module.pointwise_conv2"],
    "ff2.norm": ["ffn2_layer_norm"],
    "ff2.up": ["ffn2.intermediate_dense"],
    "ff2.down": ["ffn2.output_dense"],
    "norm": ["final_layer_norm"],
}
NAMES = {
    "encoder.norm_in": ["feature_projection.layer_norm"],
    "encoder.project": ["feature_projection.projection"],
} | {f"{LAYER}.{mine}": [f"{LAYER}.{key}" for key in theirs] for mine, theirs in BLOCK.items()}
BESIDE = {"masked_spec_embed": "what an objective puts on masked frames"}
HEADS = ("lm_head", "classifier", "projector", "layer_weights", "tdnn", "feature_extractor", "objective")
EXTRACTOR = {"num_mel_bins": 80, "stride": 2, "sampling_rate": 16_000}  # where no file tells
HARMLESS = {"encoder.checkpoint_layers": "for training only"}


def odd(kernel: int) -> int:
    """Hugging Face has odd kernels only."""
    if kernel % 2 == 0:
        raise ValueError
    return kernel


OPTIONS = {
    "hidden_size": Option("encoder.dim", 1024),
    "num_hidden_layers": Option("encoder.depth", 24),
    "num_attention_heads": Option("encoder.heads", 16),
    "intermediate_size": Option("encoder.ff_dim", 4096),
    "conv_depthwise_kernel_size": Option("encoder.kernel", 31, odd, odd),
    "left_max_position_embeddings": Option("encoder.left", 64),
    "right_max_position_embeddings": Option("encoder.right", 8),
    "hidden_dropout": Option("encoder.dropout", 0.0),
    "feat_proj_dropout": Option("encoder.dropout_pre", 0.0),
    "attention_dropout": Option("encoder.dropout_att", 0.0),
    "layerdrop": Option("encoder.layer_drop", 0.1),
}
ONLY = {
    "position_embeddings_type": "relative_key",
    "add_adapter": False,
    "use_intermediate_ffn_before_adapter": False,
    "hidden_act": "swish",
    "layer_norm_eps": 1e-5,
}


def dialect(extractor: Mapping[str, Any]) -> Dialect:
    """How wav2vec2-bert says it, behind one feature extractor."""
    told = EXTRACTOR | {key: extractor[key] for key in EXTRACTOR if key in extractor}
    frontend = {
        "frontend.bands": told["num_mel_bins"],
        "frontend.stack": told["stride"],
        "frontend.sample_rate": told["sampling_rate"],
    }
    return Dialect("wav2vec2-bert", FRONTEND, ENCODER, OPTIONS, ONLY, frontend)


def read(path: Path, contents: Contents) -> Source:
    """Say in hark's terms what the files hold; HarkError names the option or key that hark has not."""
    frontend, encoder, entries = dialect(contents.processor).read(contents.config)
    with torch.device("meta"):
        upstream = build_upstream(frontend, encoder)
    wanted = contents.config.get("feature_projection_input_dim", 160)
    if wanted != upstream.frontend.dim:
        made = f"the feature extractor makes {upstream.frontend.dim} numbers per frame"
        raise HarkError(f"feature_projection_input_dim={wanted}: {made}")
    prefix = HEADED if any(key.startswith(HEADED) for key in contents.state) else ""
    state, used, left = take(upstream.state_dict(), contents.state, NAMES, prefix)
    heads = dict.fromkeys(HEADS, "a head") if prefix else {}
    entries = [*entries, *used, *account(left, BESIDE | heads, prefix)]
    return Source(path, "Hugging Face wav2vec2-bert", frontend, encoder, state, entries)


def write(upstream: Upstream) -> tuple[Contents, list[Entry]]:
    """Say in theirs what an upstream is; HarkError names the option that they have not."""
    if not isinstance(upstream.frontend, registry.find("frontend", FRONTEND)):
        name = type(upstream.frontend).__name__
        raise HarkError(f"frontend {name}: Hugging Face's wav2vec2-bert reads {FRONTEND} only")
    cfg = upstream.frontend.cfg
    processor = {"num_mel_bins": cfg.bands, "stride": cfg.stack, "sampling_rate": cfg.sample_rate}
    config, entries = dialect(processor).write(upstream, HARMLESS)
    mine = upstream.state_dict()
    state = give(mine, NAMES, conformer_shape)
    config |= {
        "architectures": ["Wav2Vec2BertModel"],
        "feature_projection_input_dim": upstream.frontend.dim,
        "mask_time_prob": 0.0,
        "mask_feature_prob": 0.0,
    }
    processor |= {
        "feature_extractor_type": "SeamlessM4TFeatureExtractor",
        "feature_size": cfg.bands,
        "padding_value": 0.0,
    }
    entries += [Entry(name, Fate.used, "a weight of the same value") for name in mine]
    return Contents(config, processor, state), entries
