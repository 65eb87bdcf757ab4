"""wav2vec 2.0 of fairseq2: built by its own factory, read by hark, and loaded back by it key for key."""

import re

import pytest
import torch
import yaml

from research import registry
from research.contracts import Seq
from research.engine import bindings
from research.errors import HarkError
from research.interop.fairseq2 import find, read, write
from research.interop.load import open_upstream
from research.interop.report import Fate
from research.model import build_upstream

SMALL = {
    "model_dim": 48,
    "feature_dim": 32,
    "feature_extractor_layer_descs": [[32, 10, 5], *[[32, 3, 2]] * 4, *[[32, 2, 2]] * 2],
    "num_encoder_layers": 3,
    "num_encoder_attn_heads": 4,
    "ffn_inner_dim": 80,
    "pos_conv_kernel_size": 16,
    "num_pos_conv_groups": 4,
}
KINDS = {
    "base": {},
    "stable": {
        "norm_order": "PRE",
        "layer_norm_features": False,
        "feature_extractor_bias": True,
        "feature_extractor_layer_norm_convs": True,
    },
    "stacked": {"pos_encoder_depth": 3, "pos_conv_kernel_size": 15},
}


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    registry.load_plugins()
    if not bindings.prepare():
        pytest.skip("fairseq2's models need its bindings")


def reference(encoder_config):
    """fairseq2's model, all weights random."""
    from fairseq2.models.transformer import TransformerNormOrder
    from fairseq2.models.wav2vec2 import Wav2Vec2Config, Wav2Vec2EncoderConfig, create_wav2vec2_model

    values = dict(encoder_config)
    if "norm_order" in values:
        values["norm_order"] = TransformerNormOrder[values["norm_order"]]
    torch.manual_seed(0)
    model = create_wav2vec2_model(Wav2Vec2Config(encoder_config=Wav2Vec2EncoderConfig(**values))).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def layers_of(model, audio):
    """What every layer of fairseq2's encoder gives, a row at a time: its group norm counts padding."""
    from fairseq2.nn import BatchLayout

    found = []
    with (
        torch.no_grad(),
        model.encoder.register_layer_hook(lambda _i, x, _layout, _n: found.append(x) or True),
    ):
        x, layout = model.encoder_frontend(audio, BatchLayout.of(audio))
        last = model.encoder(x, layout)
    return [x, *found[:-1], last]


def saved(folder, state, encoder_config, name="model"):
    torch.save({"model": state}, folder / f"{name}.pt")
    card = {"name": name, "model_family": "wav2vec2", "model_arch": "base", "checkpoint": f"{name}.pt"}
    card["model_config"] = {"encoder_config": encoder_config}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(card))
    return folder / f"{name}.pt"


def opened(path):
    source = read(path)
    return open_upstream(source), source


@pytest.fixture(scope="module", params=KINDS)
def case(request, tmp_path_factory):
    config = SMALL | KINDS[request.param]
    model = reference(config)
    path = saved(tmp_path_factory.mktemp(request.param), model.state_dict(), config)
    return model, path, config


def test_every_layer_is_fairseq2s(case):
    model, path, _ = case
    upstream, source = opened(path)
    assert find(path)
    generator = torch.Generator().manual_seed(1)
    audio = Seq(0.1 * torch.randn(2, 12_000, generator=generator), torch.tensor([12_000, 7_001]))
    upstream.frontend.cfg.normalize = False  # fairseq2 does so in its data
    with torch.no_grad():
        mine = upstream(audio)
    for row, length in enumerate(audio.lengths.tolist()):
        theirs = layers_of(model, audio.x[row : row + 1, :length])
        assert len(mine.layers) == len(theirs) == 4
        for a, b in zip(mine.layers, theirs, strict=True):
            assert (a[row, : b.size(1)] - b[0]).abs().max() < 1e-4
        assert mine.last.lengths[row] == theirs[0].size(1)
    fates = {entry.key: entry.fate for entry in source.entries}
    assert set(model.state_dict()) <= set(fates)
    assert fates["quantizer.entries"] is Fate.ignored


def test_back_again(case, tmp_path):
    model, path, config = case
    upstream, _ = opened(path)
    write(upstream, tmp_path / "mine.pt")
    state = torch.load(tmp_path / "mine.pt", weights_only=True)["model"]
    for key, value in model.state_dict().items():
        if key.startswith("encoder"):
            assert torch.equal(state[key], value), key
    card = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    again = reference(card["model_config"]["encoder_config"])
    again.load_state_dict(state, strict=True)
    once_more, _ = opened(tmp_path / "mine.yaml")
    assert all(torch.equal(a, b) for a, b in zip(once_more.parameters(), upstream.parameters(), strict=True))
    assert once_more.encoder.cfg == upstream.encoder.cfg
    assert once_more.frontend.cfg == upstream.frontend.cfg
    written = card["model_config"]["encoder_config"]
    assert {key: written[key] for key in config} == config


def test_keys_of_fairseq_itself(case, tmp_path):
    """The older names lead to the same model."""
    model, path, config = case
    norm = "group_norm" if "norm_order" not in config else "layer_norm"
    place = r"\1.2." if norm == "group_norm" else r"\1.2.1."
    table = [
        (r"^encoder_frontend\.layer_norm\.", "encoder.layer_norm."),
        (r"self_attn\.output_proj", "self_attn.out_proj"),
        (r"ffn\.inner_proj", "fc1"),
        (r"ffn\.output_proj", "fc2"),
        (r"(layers\.\d+)\.ffn_layer_norm", r"\1.final_layer_norm"),
        (r"^encoder_frontend\.pos_encoder\.conv\.", "encoder.pos_conv.0."),
        (r"^encoder_frontend\.pos_encoder\.layers\.(\d+)\.conv\.", r"encoder.pos_conv.\1.0."),
        (
            r"^encoder_frontend\.feature_extractor\.layers\.(\d+)\.conv\.",
            r"feature_extractor.conv_layers.\1.0.",
        ),
        (
            rf"^encoder_frontend\.feature_extractor\.layers\.(\d+)\.{norm}\.",
            "feature_extractor.conv_layers." + place,
        ),
        (r"^encoder_frontend\.post_extract_layer_norm\.", "layer_norm."),
        (r"^encoder_frontend\.model_dim_proj\.", "post_extract_proj."),
        (r"^masker\.temporal_mask_embed", "mask_emb"),
        (r"^final_target_proj", "project_q"),
    ]
    old = {}
    for key, value in model.state_dict().items():
        pattern, wanted = next((pair for pair in table if re.search(pair[0], key)), ("^", ""))
        old[re.sub(pattern, wanted, key)] = value
    assert "mask_emb" in old
    new, _ = opened(path)
    same, _ = opened(saved(tmp_path, old, config))
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), same.parameters(), strict=True))


def test_a_step_of_a_run_of_fairseq2_is_read(case, tmp_path):
    model, _, config = case
    folder = tmp_path / "step_5" / "model" / "pp_00" / "tp_00"
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / "sdp_00.pt")
    told = {"_set_": {"encoder_config": {"_set_": config}}}
    card = {"name": "checkpoint", "model_family": "wav2vec2", "model_config": told}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(card))
    assert find(tmp_path / "step_5")
    assert opened(tmp_path / "step_5")[0].dim == 48


def test_a_card_of_fairseq2_says_what_to_download():
    with pytest.raises(
        HarkError, match=r"wav2vec2_base: download https://.*wav2vec2_fs2_small\.pt"
    ) as caught:
        read("wav2vec2_base")
    assert "\n" not in str(caught.value)
    with pytest.raises(HarkError, match="no card of fairseq2"):
        read("wav2vec3_base")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_conformer": True}, "use_conformer=True"),
        ({"use_fbank": True}, "use_fbank=True"),
        ({"pos_encoder_type": "rotary"}, "pos_encoder_type=rotary"),
        ({"norm_order": "PRE"}, "layer_norm_features=True"),
        ({"feature_dim": 48}, "feature_extractor_layer_descs"),
        ({"ffn_inner_dim": 81}, "where the config asks for"),
        ({"model_dim": 32}, "feature_dim=32"),
        ({"pos_encoder_depth": 2}, "pos_conv_kernel_size=16"),
    ],
)
def test_what_hark_has_not_is_refused(tmp_path, change, words):
    model = reference(SMALL)
    with pytest.raises(HarkError, match=words) as caught:
        read(saved(tmp_path, model.state_dict(), SMALL | change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("a: [1", "is no YAML of asset cards"),
        ("", "holds 0 asset cards"),
        ("name: a\n---\nname: b", "holds 2 asset cards"),
        ("{name: a, model_family: wav2vec2}", "a: its checkpoint .* is not there"),
        ("{name: a, model_family: llama, checkpoint: x.pt}", "model_family=llama"),
        ("{name: a, model_family: wav2vec2, model_arch: huge, checkpoint: x.pt}", "model_arch=huge"),
        ("{name: a, model_family: wav2vec2, model_config: 3, checkpoint: x.pt}", "3: is no section"),
        (
            "{name: a, model_family: wav2vec2, checkpoint: x.pt}",
            "holds more than plain tensors, or is damaged",
        ),
    ],
)
def test_a_wrong_card_is_refused(tmp_path, card, words):
    (tmp_path / "card.yaml").write_text(card)
    (tmp_path / "x.pt").write_bytes(b"nothing")
    with pytest.raises(HarkError, match=words) as caught:
        read(tmp_path / "card.yaml")
    assert "\n" not in str(caught.value)
    assert not find(tmp_path / "x.pt")


def test_what_fairseq2_has_not_is_refused(tmp_path):
    frontend, encoder = (
        registry.config_of("frontend", "conv_wave"),
        registry.config_of("encoder", "transformer_tiny"),
    )
    gated = type(encoder)(**{**vars(encoder), "buckets": 8})
    for pair, name, words in (
        ((frontend, gated), "a.pt", r"encoder\.buckets=8: fairseq2's wav2vec2 cannot express it"),
        ((registry.config_of("frontend", "log_mel"), encoder), "a.pt", "frontend LogMel"),
        ((frontend, encoder), "a.bin", r"end in \.pt"),
    ):
        with torch.device("meta"):
            upstream = build_upstream(*pair)
        with pytest.raises(HarkError, match=words):
            write(upstream, tmp_path / name)
