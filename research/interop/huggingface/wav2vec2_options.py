"""config.json and preprocessor_config.json of wav2vec 2.0, HuBERT, WavLM and data2vec-audio."""

from typing import Any

from research.interop.huggingface.options import Convert, Dialect, Option, some
from research.nn.transformer import NormOrder, PositionNorm
from research.nn.wave import FeatureNorm

FRONTEND, ENCODER = "conv_wave", "transformer"
HARMLESS = {  # hark's options that no layer depends on
    "frontend.grad_scale": "for training only",
    "encoder.checkpoint_layers": "for training only",
    "encoder.max_distance": "without buckets there are no distances",
}


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
                "num_conv_pos_embeddings": Option("encoder.position_layers", 5, some, some),
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
