"""wav2vec 2.0, HuBERT, WavLM and data2vec-audio from Hugging Face: every layer equal, there and back."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.interop import huggingface
from research.interop.report import Fate
from research.model import build_upstream
from tests.hf_models import CASES, CONV, LAYER, PRE, far, opened, random_model, theirs, waves

transformers = pytest.importorskip("transformers")
registry.load_plugins()


@pytest.fixture(scope="module", params=CASES)
def saved(request, tmp_path_factory):
    model = random_model(*CASES[request.param])
    folder = tmp_path_factory.mktemp("hf") / request.param
    model.save_pretrained(folder)
    return model, folder


def test_every_layer_of_every_row_of_a_padded_batch_equals_the_row_alone(saved):
    model, folder = saved
    upstream, _ = opened(folder)
    audio = waves()
    with torch.no_grad():
        encoded = upstream(audio)
    assert len(encoded.layers) == 4
    for row, length in enumerate(audio.lengths.tolist()):
        alone = theirs(model, audio.x[row : row + 1, :length])
        assert alone[0].size(1) == encoded.last.lengths[row]
        assert far([layer[row : row + 1, : alone[0].size(1)] for layer in encoded.layers], alone) < 1e-4


@pytest.mark.parametrize("case", [case for case in CASES if "layer" in case])
def test_where_padding_changes_nothing_of_theirs_a_padded_batch_is_equal_too(case, tmp_path):
    """Their group norm counts padding, and so do data2vec's convolutions from the second on."""
    model = random_model(*CASES[case])
    model.save_pretrained(tmp_path)
    upstream, _ = opened(tmp_path)
    audio = waves()
    with torch.no_grad():
        encoded = upstream(audio)
    wanted = theirs(model, audio.x, audio.valid.long())
    valid = encoded.last.valid
    assert far([layer[valid] for layer in encoded.layers], [layer[valid] for layer in wanted]) < 1e-4


def test_what_was_read_can_be_written_and_opened_by_them(saved, tmp_path):
    model, folder = saved
    upstream, _ = opened(folder)
    entries = huggingface.write(upstream, tmp_path / "out")
    assert {entry.fate for entry in entries} <= {Fate.used, Fate.ignored}
    again, told = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(told.values())
    audio = waves().x[:1]
    assert far(theirs(again.eval(), audio), theirs(model, audio)) < 1e-5
    assert (
        opened(tmp_path / "out")[1].encoder,
        opened(tmp_path / "out")[1].frontend,
    ) == (opened(folder)[1].encoder, opened(folder)[1].frontend)


def test_a_fresh_hark_model_can_be_exported(tmp_path):
    torch.manual_seed(0)
    frontend = registry.config_of("frontend", "conv_wave_layer")
    encoder = registry.config_of("encoder", "transformer_tiny")
    upstream = build_upstream(frontend, encoder).eval()
    huggingface.write(upstream, tmp_path / "out")
    model = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    extract = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    audio = waves()
    rows = [row[:length].numpy() for row, length in zip(audio.x, audio.lengths, strict=True)]
    read = extract(rows, sampling_rate=16_000, padding=True, return_tensors="pt")
    with torch.no_grad():
        encoded = upstream(audio)
    wanted = theirs(model, read["input_values"], read["attention_mask"])
    valid = encoded.last.valid
    assert far([layer[valid] for layer in encoded.layers], [layer[valid] for layer in wanted]) < 1e-4


@pytest.mark.parametrize(
    ("name", "head", "beside"),
    [
        (
            "Wav2Vec2",
            "ForPreTraining",
            {"quantizer", "project_q", "project_hid", "wav2vec2.masked_spec_embed"},
        ),
        ("Hubert", "ForCTC", {"lm_head", "hubert.masked_spec_embed"}),
        (
            "WavLM",
            "ForXVector",
            {"tdnn", "projector", "classifier", "feature_extractor", "objective", "wavlm.masked_spec_embed"},
        ),
        (
            "Data2VecAudio",
            "ForSequenceClassification",
            {"projector", "classifier", "data2vec_audio.masked_spec_embed"},
        ),
    ],
)
def test_a_head_is_left_out_with_a_reason(name, head, beside, tmp_path):
    model = random_model(name, {}, head)
    model.save_pretrained(tmp_path)
    upstream, source = opened(tmp_path)
    keys = {entry.key: entry for entry in source.entries}
    assert model.state_dict().keys() <= keys.keys()
    left = [entry for key, entry in keys.items() if key in model.state_dict() and entry.fate is Fate.ignored]
    assert left
    assert all(entry.key.startswith(tuple(beside)) for entry in left)
    audio = waves().x[:1]
    base = getattr(model, model.base_model_prefix)
    with torch.no_grad():
        assert far(upstream(Seq(audio, torch.tensor([audio.size(1)]))).layers, theirs(base, audio)) < 1e-4


def test_an_adapter_after_the_last_layer_is_left_out(tmp_path):
    model = random_model("Wav2Vec2", CONV | {"add_adapter": True})
    model.save_pretrained(tmp_path)
    notes = {e.key: e.note for e in opened(tmp_path)[1].entries if e.fate is Fate.ignored}
    assert notes["adapter.layers.0.conv.weight"] == "comes after the last layer"


def test_old_names_of_weight_norm_in_a_pickle(tmp_path):
    model = random_model(*CASES["hubert"])
    model.save_pretrained(tmp_path)
    wanted = opened(tmp_path)[1].state
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        key = f"encoder.pos_conv_embed.conv.{new}"
        state[key.replace(new, name)] = state.pop(key)
    torch.save({f"hubert.{key}": value for key, value in state.items()}, tmp_path / "pytorch_model.bin")
    found = opened(tmp_path)[1].state
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_shards_and_half_precision(tmp_path):
    model = random_model(*CASES["wavlm"]).half()
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    _, source = opened(tmp_path)
    assert {value.dtype for value in source.state.values()} == {torch.float32}
    last = max(tmp_path.glob("model-*.safetensors"))
    last.unlink()
    with pytest.raises(HarkError, match=f"{last.name}: this shard is missing"):
        huggingface.read(tmp_path)


@pytest.mark.parametrize("normalize", [True, False])
def test_do_normalize_of_the_processor_is_honoured(normalize, tmp_path):
    model = random_model(*CASES["wav2vec2-layer-post"])
    model.save_pretrained(tmp_path)
    extract = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize, return_attention_mask=True)
    extract.save_pretrained(tmp_path)
    upstream, source = opened(tmp_path)
    assert source.frontend.normalize is normalize
    audio = waves()
    rows = [row[:length].numpy() for row, length in zip(audio.x, audio.lengths, strict=True)]
    read = extract(rows, sampling_rate=16_000, padding=True, return_tensors="pt")
    with torch.no_grad():
        encoded = upstream(audio)
    wanted = theirs(model, read["input_values"], read["attention_mask"])
    valid = encoded.last.valid
    assert far([layer[valid] for layer in encoded.layers], [layer[valid] for layer in wanted]) < 1e-4


LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


@pytest.mark.parametrize(
    ("name", "options", "frontend", "encoder"),
    [
        ("Wav2Vec2", {}, "conv_wave", "transformer_base"),
        ("Wav2Vec2", LARGE | LAYER | PRE | {"conv_bias": True}, "conv_wave_layer", "transformer_large"),
        ("Hubert", {}, "conv_wave", "transformer"),
        ("WavLM", {}, "conv_wave", "wavlm_base"),
        ("WavLM", LARGE | LAYER | PRE, "conv_wave_layer_no_bias", "wavlm_large"),
        ("Data2VecAudio", {}, "conv_wave_layer_no_bias", "data2vec_base"),
        ("Data2VecAudio", LARGE, "conv_wave_layer_no_bias", "data2vec_large"),
    ],
)
def test_presets_have_as_many_parameters_as_theirs(name, options, frontend, encoder):
    config = getattr(transformers, f"{name}Config")(mask_time_prob=0.0, **options)
    with torch.device("meta"):
        model: nn.Module = getattr(transformers, f"{name}Model")(config)
        upstream = build_upstream(
            registry.config_of("frontend", frontend), registry.config_of("encoder", encoder)
        )
    assert count(upstream) == count(model)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())
