"""NeMo's model_config.yaml -> hark's Config. An option that hark has no counterpart of is an error, not a guess."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from research import registry
from research.config import Config
from research.contracts import Encoder, Frontend
from research.errors import HarkError
from research.interop.report import Entry, Fate
from research.nn.attention import Positions, Window
from research.nn.causal import Convolutions
from research.nn.conformer import ConvNorm
from research.nn.mel import Normalize

TARGETS = ("EncDecDenoiseMaskedTokenPredModel", "EncDecMaskedTokenPredModel")


@dataclass
class Take:
    """An option that hark has too, with NeMo's own default."""

    field: str
    default: Any
    convert: Callable[[Any], Any] = lambda value: value


class Only:
    """An option of which hark has some values only."""

    def __init__(self, *allowed: Any) -> None:
        self.allowed = allowed

    def allows(self, value: Any) -> bool:
        return value in self.allowed


class Class(Only):
    """The class of NeMo's that a section describes."""

    def allows(self, value: Any) -> bool:
        return last_word(value) in self.allowed


@dataclass
class Skip:
    """An option that does not change what the model computes."""

    reason: str


Rules = Mapping[str, Take | Only | Skip]

SHAPES = Skip("the shapes of the weights tell")
CLASS = Skip("NeMo's class")
SPEED = Skip("how NeMo computes it, not what")


def context(value: Any) -> tuple[int, int]:
    left, right = (-1, -1) if value is None else value
    return int(left), int(right)


def normalize(value: Any) -> Normalize:
    return Normalize["none" if value in ("NA", None) else value]


PREPROCESSOR: Rules = {
    "_target_": Class("AudioToMelSpectrogramPreprocessor"),
    "features": Take("dim", 64),
    "sample_rate": Take("sample_rate", 16_000),
    "window_size": Take("window", 0.02),
    "window_stride": Take("hop", 0.01),
    "n_fft": Take("n_fft", 512, int),
    "preemph": Take("preemphasis", 0.97, float),
    "dither": Take("dither", 1e-5),
    "normalize": Take("normalize", "per_feature", normalize),
    "log_zero_guard_value": Take("guard", 2**-24, float),
    "log_zero_guard_type": Only("add"),
    "window": Only("hann"),
    "log": Only(True),
    "frame_splicing": Only(1),
    "mag_power": Only(2.0),
    "mel_norm": Only("slaney"),
    "lowfreq": Only(0),
    "highfreq": Only(None),
    "exact_pad": Only(False),
    "nb_augmentation_prob": Only(0.0),
    "pad_value": Only(0.0),
    "pad_to": Skip("padding changes nothing"),
    "nb_max_freq": Skip("no narrow-band augmentation"),
    "use_torchaudio": SPEED,
    "rng": SPEED,
}
ENCODER: Rules = {
    "_target_": Class("ConformerEncoder"),
    "feat_in": SHAPES,
    "feat_out": Only(-1),
    "subsampling": Take(
        "plugin", "striding", {"dw_striding": "fastconformer", "striding": "conformer"}.__getitem__
    ),
    "subsampling_factor": Take("stride", 4),
    "subsampling_conv_channels": Take("channels", -1),
    "n_layers": Take("depth", None, int),
    "d_model": Take("dim", None, int),
    "n_heads": Take("heads", 4),
    "ff_expansion_factor": Take("ff_mult", 4),
    "conv_kernel_size": Take("kernel", 31),
    "conv_norm_type": Take(
        "conv_norm", "batch_norm", {"batch_norm": ConvNorm.batch, "layer_norm": ConvNorm.layer}.__getitem__
    ),
    "self_attention_model": Take("positions", "rel_pos", {"rel_pos": Positions.rel_pos}.__getitem__),
    "att_context_size": Take("context", None, context),
    "use_bias": Take("bias", True),
    "xscaling": Take("xscaling", True),
    "dropout": Take("dropout", 0.1),
    "dropout_pre_encoder": Take("dropout_pre", 0.1),
    "dropout_att": Take("dropout_att", 0.0),
    "dropout_emb": Take("dropout_emb", 0.1),
    "stochastic_depth_drop_prob": Take("layer_drop", 0.0),
    "stochastic_depth_mode": Only("linear"),
    "stochastic_depth_start_layer": Only(1),
    "causal_downsampling": Only(False),
    "conv_context_size": Take(
        "convolutions", None, {None: Convolutions.centred, "causal": Convolutions.causal}.__getitem__
    ),
    "conv_context_style": Only("regular"),
    "att_context_style": Take(
        "window", "regular", {"regular": Window.sliding, "chunked_limited": Window.chunked}.__getitem__
    ),
    "att_context_probs": Only(None),
    "att_chunk_context_size": Only(None),
    "untie_biases": Only(True),
    "reduction": Only(None),
    "global_tokens": Only(0),
    "reduction_position": Skip("no reduction"),
    "reduction_factor": Skip("no reduction"),
    "global_tokens_spacing": Skip("no global tokens"),
    "global_attn_separate": Skip("no global tokens"),
    "pos_emb_max_len": SPEED,
    "subsampling_conv_chunking_factor": SPEED,
    "use_pytorch_sdpa": SPEED,
    "use_pytorch_sdpa_backends": SPEED,
    "sync_max_audio_length": SPEED,
}
QUANTIZER: Rules = {
    "_target_": CLASS,
    "feat_in": SHAPES,
    "code_dim": Take("dim", None, int),
    "num_classes": Take("codes", None, int),
    "num_books": Take("books", 1),
    "combine_time_steps": Take("stride", 1),
    "dist_fn": Only("l2", "cosine"),  # the same code is nearest on the unit sphere
    "freeze": Only(True),
    "time_ahead": Only(False),
    "squeeze_single": SHAPES,
}
MASKING: Rules = {
    "_target_": CLASS,
    "feat_in": SHAPES,
    "block_size": Take("length", 48),
    "mask_prob": Take("prob", 0.5),
    "allow_overlap": Take("plugin", False, {True: "block", False: "grid_block"}.__getitem__),
    "freeze": Only(True),
    "mask_value": Only(None),
    "max_mask_ratio": Skip("every row that can hold a block is masked, no other"),
}
DECODER: Rules = {
    "_target_": CLASS,
    "feat_in": SHAPES,
    "num_classes": SHAPES,
    "num_decoders": SHAPES,
    "squeeze_single": SHAPES,
    "init_mode": Skip("weights are loaded"),
    "use_bias": Only(True),
}
LOSS: Rules = {
    "_target_": CLASS,
    "combine_time_steps": Take("stride", 1),
    "mask_threshold": Take("threshold", 0.8),
    "num_decoders": SHAPES,
    "squeeze_single": SHAPES,
}


def translate(section: str, values: Mapping[str, Any], rules: Rules, entries: list[Entry]) -> dict[str, Any]:
    """Apply one table to one section: hark's fields; what was done with each option goes into `entries`."""
    for key in values:
        if key not in rules:
            raise HarkError(f"{section}.{key}={values[key]}: hark has no such option")
    fields: dict[str, Any] = {}
    for key, rule in rules.items():
        value = values.get(key, getattr(rule, "default", None))
        name = f"{section}.{key}"
        match rule:
            case Take():
                try:
                    fields[rule.field] = rule.convert(value)
                except (KeyError, TypeError, ValueError):
                    raise HarkError(f"{name}={value}: hark has no such {rule.field}") from None
                entries.append(Entry(name, Fate.used, f"{rule.field}={fields[rule.field]}"))
            case Only() if key in values:
                if not rule.allows(value):
                    wanted = " or ".join(map(str, rule.allowed))
                    raise HarkError(f"{name}={value}: hark has {wanted} only")
                entries.append(Entry(name, Fate.used, "what hark does"))
            case Skip() if key in values:
                entries.append(Entry(name, Fate.ignored, rule.reason))
    return fields


TABLES = {
    "preprocessor": PREPROCESSOR,
    "encoder": ENCODER,
    "quantizer": QUANTIZER,
    "masking": MASKING,
    "decoder": DECODER,
    "loss": LOSS,
}
UPSTREAM = {section: TABLES[section] for section in ("preprocessor", "encoder")}


def to_config(values: Mapping[str, Any]) -> tuple[Config, list[Entry]]:
    """Translate the whole model_config.yaml of a NEST model; HarkError names the first option that hark lacks."""
    check_target(values)
    parts, entries = translate_all(values, TABLES)
    stride = parts["encoder"]["stride"]
    for section in ("quantizer", "loss"):
        steps = parts[section].pop("stride")
        if steps != stride:
            raise HarkError(
                f"{section}.combine_time_steps={steps}: hark has subsampling_factor={stride} only"
            )
    return build_config(parts), entries


def to_upstream(values: Mapping[str, Any]) -> tuple[Frontend.Config, Encoder.Config, list[Entry]]:
    """Translate preprocessor and encoder of any class of NeMo's that has a Conformer; HarkError as `to_config`."""
    parts, entries = translate_all(values, UPSTREAM)
    return build_frontend(parts["preprocessor"]), build_encoder(parts["encoder"]), entries


def translate_all(
    values: Mapping[str, Any], tables: Mapping[str, Rules]
) -> tuple[dict[str, dict[str, Any]], list[Entry]]:
    entries: list[Entry] = []
    parts: dict[str, dict[str, Any]] = {}
    for section, rules in tables.items():
        if not isinstance(values.get(section), dict):
            raise HarkError(f"{section}: this section is missing from the model's config")
        parts[section] = translate(section, values[section], rules, entries)
    entries += [Entry(key, Fate.ignored, "no part of what hark reads") for key in values if key not in tables]
    return parts, entries


def is_nest(values: Mapping[str, Any]) -> bool:
    return target_of(values) in TARGETS


def target_of(values: Mapping[str, Any]) -> str:
    """Name the class of a model."""
    return last_word(values.get("target"))


def last_word(path: Any) -> str:
    return str(path).rsplit(".", 1)[-1]


def check_target(values: Mapping[str, Any]) -> None:
    if not is_nest(values):
        raise HarkError(f"target={values.get('target')}: hark reads {' and '.join(TARGETS)} only")
    position = values.get("mask_position", "pre_conv")
    if position != "pre_conv":
        raise HarkError(f"mask_position={position}: hark has pre_conv only")


def build_config(parts: dict[str, dict[str, Any]]) -> Config:
    masking = parts["masking"]
    return Config(
        defaults=[],
        objective=replace(registry.config_of("objective", "nest"), **parts["loss"]),
        frontend=build_frontend(parts["preprocessor"]),
        encoder=build_encoder(parts["encoder"]),
        quantizer=replace(registry.config_of("quantizer", "random_projection"), **parts["quantizer"]),
        masking=replace(registry.config_of("masking", masking.pop("plugin")), **masking),
        augmentation=registry.config_of("augmentation", "none"),
        schedule=registry.config_of("schedule", "noam"),
    )


def build_frontend(fields: dict[str, Any]) -> Frontend.Config:
    config: Frontend.Config = replace(registry.config_of("frontend", "log_mel"), **fields)
    return config


def build_encoder(fields: dict[str, Any]) -> Encoder.Config:
    if fields["channels"] == -1:
        fields["channels"] = fields["dim"]
    plugin = fields.pop("plugin")
    config: Encoder.Config = replace(registry.config_of("encoder", plugin), **fields)
    return config
