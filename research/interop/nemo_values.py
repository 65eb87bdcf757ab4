"""hark's Config -> NeMo's model_config.yaml: the inverse of nemo_config.py."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from research import registry
from research.config import Config
from research.errors import HarkError
from research.interop.nemo_config import TABLES, Only, Take, to_config
from research.nn.attention import Positions, Window
from research.nn.causal import Convolutions
from research.nn.conformer import ConvNorm
from research.nn.mel import Normalize

TARGET = "nemo.collections.asr.models.ssl_models.EncDecDenoiseMaskedTokenPredModel"
CLASSES = {
    "preprocessor": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
    "encoder": "nemo.collections.asr.modules.ConformerEncoder",
    "quantizer": "nemo.collections.asr.modules.RandomProjectionVectorQuantizer",
    "masking": "nemo.collections.asr.modules.RandomBlockMasking",
    "decoder": "nemo.collections.asr.modules.MultiSoftmaxDecoder",
    "loss": "nemo.collections.asr.losses.MultiMLMLoss",
}
WORDS: dict[Any, Any] = {  # hark's values -> NeMo's, where they differ
    "fastconformer": "dw_striding",
    "conformer": "striding",
    "block": True,
    "grid_block": False,
    Normalize.none: "NA",
    Normalize.per_feature: "per_feature",
    Normalize.all_features: "all_features",
    ConvNorm.batch: "batch_norm",
    ConvNorm.layer: "layer_norm",
    Positions.rel_pos: "rel_pos",
    Window.sliding: "regular",
    Window.chunked: "chunked_limited",
    Convolutions.centred: None,
    Convolutions.causal: "causal",
}
NEWER = ("conv_context_style", "att_chunk_context_size")  # options that NeMo before 3.0 does not take
LOST = {  # hark's options that NeMo has not, and that no frame or target of a trained model depends on
    "frontend": ("dither_seed",),
    "encoder": ("checkpoint_layers", "groups"),
    "quantizer": ("seed",),
}


def values_of(config: Config) -> dict[str, Any]:
    """Give model_config.yaml; HarkError for the first option that it cannot say."""
    parts = sections(config)
    mel, conformer, codes = parts["preprocessor"], parts["encoder"], parts["quantizer"]
    bands = {"feat_in": mel["dim"]}
    steps = {"squeeze_single": False, "combine_time_steps": conformer["stride"]}
    heads = {"num_decoders": codes["books"], "squeeze_single": False}
    shapes = {
        "encoder": bands,
        "masking": bands,
        "quantizer": bands | steps,
        "decoder": heads | {"feat_in": conformer["dim"], "num_classes": codes["codes"]},
        "loss": heads | steps,
    }
    values: dict[str, Any] = {
        "sample_rate": mel["sample_rate"],
        "num_classes": codes["codes"],
        "num_books": codes["books"],
        "code_dim": codes["dim"],
        "squeeze_single": False,
        "mask_position": "pre_conv",
        "train_ds": None,
        "validation_ds": None,
        "spec_augment": {
            "_target_": "nemo.collections.asr.modules.SpectrogramAugmentation",
            "freq_masks": 0,
            "time_masks": 0,
        },
    }
    for name, fields in parts.items():
        values[name] = {"_target_": CLASSES[name], **section(name, fields), **shapes.get(name, {})}
    values["target"] = TARGET
    verify(config, to_config(values)[0])
    return values


def sections(config: Config) -> dict[str, dict[str, Any]]:
    """Give hark's fields by the section of NeMo's that tells them; HarkError for plugins that NeMo has not."""
    needed = {
        "objective": ("nest",),
        "frontend": ("log_mel",),
        "encoder": ("fastconformer", "conformer"),
        "quantizer": ("random_projection",),
        "masking": ("block", "grid_block"),
    }
    chosen: dict[str, str] = {}
    for kind, known in needed.items():
        own = type(getattr(config, kind))
        names = [name for name in known if own is type(registry.config_of(kind, name))]
        if not names:
            raise HarkError(
                f"{kind}={registry.name_of(getattr(config, kind))}: a .nemo archive can have {' or '.join(known)} only"
            )
        chosen[kind] = names[0]
    return {
        "preprocessor": vars(config.frontend),
        "encoder": {**vars(config.encoder), "plugin": chosen["encoder"]},
        "quantizer": vars(config.quantizer),
        "masking": {**vars(config.masking), "plugin": chosen["masking"]},
        "decoder": {},
        "loss": vars(config.objective),
    }


def section(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Say one section in NeMo's words; `stride` of quantizer and loss is told by the shapes."""
    said: dict[str, Any] = {}
    for key, rule in TABLES[name].items():
        if isinstance(rule, Take) and rule.field in fields:
            said[key] = word(f"{name}.{key}", fields[rule.field])
        elif isinstance(rule, Only) and key not in ("_target_", *NEWER):
            said[key] = rule.allowed[0]
    return said


def word(key: str, value: Any) -> Any:
    """Give NeMo's word for a value of hark's."""
    if isinstance(value, tuple | list):
        return list(value)
    if isinstance(value, Enum) and value not in WORDS:
        raise HarkError(f"{key}: a .nemo archive has no word for {value.name}")
    return WORDS.get(value, value)


def verify(config: Config, back: Config) -> None:
    """Raise HarkError for the first option that the archive would lose."""
    for kind in ("objective", "frontend", "encoder", "quantizer", "masking"):
        mine, theirs = vars(getattr(config, kind)), vars(getattr(back, kind))
        for key, value in mine.items():
            if key not in LOST.get(kind, ()) and as_list(theirs.get(key)) != as_list(value):
                raise HarkError(
                    f"{kind}.{key}={value}: a .nemo archive cannot tell it; export --to state or hf"
                )


def as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
