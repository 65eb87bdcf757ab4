"""Hugging Face folders that are damaged or hold what hark has not, and upstreams that they cannot hold."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from research import registry
from research.errors import HarkError
from research.interop import huggingface
from research.model import build_upstream
from tests.hf_models import CASES, opened, random_model

pytest.importorskip("transformers")
registry.load_plugins()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    random_model(*CASES["wav2vec2"]).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(base, tmp_path):
    """A folder to spoil, and what to write into its config.json."""
    for file in base.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def change(**values):
        config = json.loads((tmp_path / "config.json").read_text()) | values
        (tmp_path / "config.json").write_text(json.dumps(config))

    return tmp_path, change


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"model_type": "whisper"}, "model_type=whisper: hark opens wav2vec2, hubert, wavlm"),
        ({"hidden_act": "relu"}, "hidden_act=relu: hark has hidden_act=gelu only"),
        ({"layer_norm_eps": 1e-12}, "layer_norm_eps=1e-12: hark has"),
        ({"adapter_attn_dim": 16}, "adapter_attn_dim=16: hark has adapter_attn_dim=None only"),
        ({"conv_dim": [24] * 6 + [32]}, r"conv_dim=\[24, 24, .* 32\]: hark has no such frontend.channels"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm=batch: hark has no such frontend.norm"),
        ({"model_type": "hubert", "conv_pos_batch_norm": True}, "conv_pos_batch_norm=True: hark has"),
        ({"num_hidden_layers": 2}, "encoder.layers.2.*: a weight that hark has no place for"),
    ],
)
def test_what_hark_has_not_is_one_line_with_key_and_value(values, says, copy):
    folder, change = copy
    change(**values)
    with pytest.raises(HarkError, match=says) as error:
        huggingface.read(folder)
    assert str(folder) in str(error.value)


def test_a_missing_weight_is_named(copy):
    folder, change = copy
    change(num_hidden_layers=4)
    with pytest.raises(
        HarkError, match=r"encoder\.layers\.3\.attention\.q_proj\.weight: this weight is missing"
    ):
        huggingface.read(folder)


class Malice:
    def __reduce__(self):
        return os.system, ("echo harm",)


def test_damaged_and_malicious_files_are_refused(copy, capfd):
    folder, _ = copy
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(HarkError, match=r"model\.safetensors: cannot be read"):
        huggingface.read(folder)
    weights.unlink()
    with pytest.raises(HarkError, match="no weights are here"):
        huggingface.read(folder)
    torch.save({"key": Malice()}, folder / "pytorch_model.bin")
    with pytest.raises(HarkError, match=r"pytorch_model\.bin: holds more than plain tensors"):
        huggingface.read(folder)
    assert "harm" not in capfd.readouterr().out
    (folder / "config.json").write_text("{")
    with pytest.raises(HarkError, match=r"config\.json: is no JSON"):
        huggingface.read(folder)


def upstream_of(frontend="conv_wave", encoder="transformer_tiny", **options):
    config = registry.config_of("encoder", encoder)
    with torch.device("meta"):
        return build_upstream(
            registry.config_of("frontend", frontend), type(config)(**vars(config) | options)
        )


@pytest.mark.parametrize(
    ("upstream", "says"),
    [
        (lambda: upstream_of("log_mel"), "frontend LogMel: Hugging Face reads waveforms here"),
        (lambda: upstream_of(encoder="citrinet"), "Hugging Face has no model of this kind"),
        (lambda: upstream_of(position_layers=3), "encoder.position_layers=3: Hugging Face's wav2vec2 cannot"),
        (
            lambda: upstream_of("conv_wave_layer", "data2vec_base", buckets=320),
            "encoder.buckets=320: Hugging Face's data2vec-audio cannot",
        ),
    ],
)
def test_what_they_cannot_express_is_not_exported(upstream, says, tmp_path):
    with pytest.raises(HarkError, match=says):
        huggingface.write(upstream(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_written_over(base):
    upstream, _ = opened(base)
    with pytest.raises(HarkError, match="holds a model already"):
        huggingface.write(upstream, base)


def test_a_misnamed_weight_of_the_encoder_is_refused(copy):
    folder, _ = copy
    state = load_file(folder / "model.safetensors")
    state["encoder.layers.0.attention.mystery"] = torch.zeros(1)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(HarkError, match=r"attention\.mystery: a weight that hark has no place"):
        huggingface.read(folder)
