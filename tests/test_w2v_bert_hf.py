"""w2v-BERT 2.0: Kaldi's filter bank and the encoder equal torchaudio's and Hugging Face's, there and back."""

import json

import numpy as np
import pytest
import torch
import torchaudio
from transformers import AutoModel, SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertForCTC
from transformers import Wav2Vec2BertModel as Reference

from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.interop.huggingface import read, write
from research.interop.load import open_upstream
from research.interop.report import Fate
from research.model import build_upstream
from research.nn.kaldi import kaldi_filters

SIZES = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "conv_depthwise_kernel_size": 7,
    "left_max_position_embeddings": 12,
    "right_max_position_embeddings": 5,
}


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    registry.load_plugins()


def audio(*samples, seed=0):
    """Coloured noise of 16-bit loudness, padded: Seq (B, N)."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(len(samples), max(samples), generator=source).cumsum(1)
    x = (x - x.roll(200, 1)) * 0.003 + 0.001 * torch.randn(x.shape, generator=source)
    lengths = torch.tensor(samples)
    return Seq(x * (torch.arange(x.size(1)) < lengths[:, None]), lengths)


def extracted(seq):
    """What Hugging Face's feature extractor makes of the rows."""
    rows = [row[:length].numpy() for row, length in zip(seq.x, seq.lengths, strict=True)]
    return SeamlessM4TFeatureExtractor()(rows, sampling_rate=16_000, return_tensors="pt")


def frontend(name="fbank", **options):
    config = registry.config_of("frontend", name)
    return registry.build(type(config)(**{**vars(config), **options}))


def random_model(**options):
    """Hugging Face's model with all weights random, biases and norms too."""
    torch.manual_seed(0)
    model = Reference(Wav2Vec2BertConfig(**SIZES | options)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    return model


def saved(model, folder):
    model.save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return folder


def opened(folder):
    source = read(folder)
    return open_upstream(source), source


def test_frames_are_those_of_the_feature_extractor():
    seq = audio(32_000, 20_123, 9_999, 560)
    mine, theirs = frontend()(seq), extracted(seq)
    assert mine.lengths.tolist() == theirs.attention_mask.sum(1).tolist()
    valid = mine.valid
    assert (mine.x - theirs.input_features[:, : mine.x.size(1)])[valid].abs().max() < 1e-3
    assert not mine.x[~valid].any()


def test_plain_frames_are_torchaudios():
    seq = audio(16_000)
    mine = frontend("fbank_plain")(seq).x[0]
    theirs = torchaudio.compliance.kaldi.fbank(seq.x * 2**15, num_mel_bins=80, dither=0.0)
    assert mine.shape == theirs.shape
    assert (mine - theirs).abs().max() < 1e-3


def test_filters_are_torchaudios():
    theirs, _ = torchaudio.compliance.kaldi.get_mel_banks(80, 512, 16_000.0, 20.0, 0.0, 100.0, -500.0, 1.0)
    mine = kaldi_filters(80, 512, 16_000)
    assert (mine[:-1].T - theirs).abs().max() < 3e-5
    assert not mine[-1].any()


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 559, 560, 719, 720])
def test_short_audio_has_whole_windows_only(samples):
    out = frontend()(Seq(torch.randn(1, samples), torch.tensor([samples])))
    assert out.lengths.tolist() == [max(0, (samples - 400) // 160 + 1) // 2]
    assert torch.isfinite(out.x).all()


def test_every_layer_from_audio_is_hugging_faces(tmp_path):
    model = random_model()
    upstream, source = opened(saved(model, tmp_path))
    seq = audio(32_000, 20_123, 9_999)
    with torch.no_grad():
        theirs = model(**extracted(seq), output_hidden_states=True)
        mine = upstream(seq)
    valid = mine.last.valid
    assert len(mine.layers) == len(theirs.hidden_states) == 4
    for a, b in zip(mine.layers, theirs.hidden_states, strict=True):
        assert (a - b[:, : a.size(1)])[valid].abs().max() < 1e-4
    assert source.kind == "Hugging Face wav2vec2-bert"


def test_distances_are_clipped_in_short_and_long_audio(tmp_path):
    """Shorter than both reaches, between them, longer than both."""
    model = random_model()
    upstream, _ = opened(saved(model, tmp_path))
    for frames in (1, 2, 5, 6, 9, 13, 40):
        x = torch.randn(1, frames, 160)
        with torch.no_grad():
            mine = upstream.encoder(Seq(x, torch.tensor([frames]))).last.x
            theirs = model(x).last_hidden_state
        assert (mine - theirs).abs().max() < 1e-4


def test_back_again(tmp_path):
    upstream, _ = opened(saved(random_model(), tmp_path / "a"))
    entries = write(upstream, tmp_path / "b")
    assert not [entry for entry in entries if entry.fate is Fate.missing]
    again, info = AutoModel.from_pretrained(tmp_path / "b", output_loading_info=True)
    assert not any(info.values())
    extractor = SeamlessM4TFeatureExtractor.from_pretrained(tmp_path / "b")
    assert extractor.num_mel_bins == 80
    assert extractor.stride == 2
    seq = audio(20_000, 12_345)
    with torch.no_grad():
        mine, theirs = upstream(seq).last, again.eval()(**extracted(seq)).last_hidden_state
    assert (mine.x - theirs[:, : mine.x.size(1)])[mine.valid].abs().max() < 1e-4
    once_more, _ = opened(tmp_path / "b")
    assert all(torch.equal(a, b) for a, b in zip(once_more.parameters(), upstream.parameters(), strict=True))


def test_a_model_with_a_head_is_read(tmp_path):
    torch.manual_seed(0)
    model = Wav2Vec2BertForCTC(Wav2Vec2BertConfig(**SIZES, vocab_size=9)).eval()
    upstream, source = opened(saved(model, tmp_path))
    x = torch.randn(1, 20, 160)
    with torch.no_grad():
        theirs = model.wav2vec2_bert(x).last_hidden_state
        assert (upstream.encoder(Seq(x, torch.tensor([20]))).last.x - theirs).abs().max() < 1e-4
    fates = {entry.key: entry.fate for entry in source.entries}
    assert fates["lm_head.weight"] is Fate.ignored
    assert set(model.state_dict()) <= set(fates)


def test_every_option_and_weight_is_accounted_for(tmp_path):
    model = random_model()
    _, source = opened(saved(model, tmp_path))
    keys = [entry.key for entry in source.entries]
    assert len(set(keys)) == len(keys)
    assert set(model.state_dict()) | set(json.loads((tmp_path / "config.json").read_text())) <= set(keys)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position_embeddings_type": "rotary"}, "position_embeddings_type=rotary"),
        ({"position_embeddings_type": "relative"}, "position_embeddings_type=relative"),
        ({"add_adapter": True}, "add_adapter=True"),
        ({"hidden_act": "gelu"}, "hidden_act=gelu"),
        ({"feature_projection_input_dim": 80}, "feature_projection_input_dim=80"),
    ],
)
def test_what_hark_has_not_is_refused(tmp_path, options, words):
    saved(random_model(**options), tmp_path)
    with pytest.raises(HarkError, match=words) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_feature_extractor_is_followed(tmp_path):
    model = random_model(feature_projection_input_dim=40)
    model.save_pretrained(tmp_path)
    SeamlessM4TFeatureExtractor(feature_size=40, num_mel_bins=40, stride=1).save_pretrained(tmp_path)
    upstream, _ = opened(tmp_path)
    assert (upstream.frontend.dim, upstream.frontend.hop) == (40, 160)


def test_what_hugging_face_has_not_is_refused(tmp_path):
    config = registry.config_of("encoder", "w2v_bert_conformer_tiny")
    upstream = build_upstream(registry.config_of("frontend", "log_mel"), config)
    with pytest.raises(HarkError, match="frontend LogMel"):
        write(upstream, tmp_path / "a")
    upstream = build_upstream(registry.config_of("frontend", "fbank_plain"), config)
    with pytest.raises(HarkError, match=r"frontend\.normalize"):
        write(upstream, tmp_path / "b")
    even = type(config)(**{**vars(config), "kernel": 8})
    with pytest.raises(HarkError, match=r"encoder\.kernel=8"):
        write(build_upstream(registry.config_of("frontend", "fbank"), even), tmp_path / "c")


def test_the_published_size_is_that_of_the_published_model():
    with torch.device("meta"):
        mine = build_upstream(
            registry.config_of("frontend", "fbank"), registry.config_of("encoder", "w2v_bert_conformer_large")
        )
        theirs = Reference(Wav2Vec2BertConfig(mask_time_prob=0.0))
    count = [sum(p.numel() for p in model.parameters()) for model in (mine, theirs)]
    assert count[0] == count[1]
    assert np.isclose(count[0], 580e6, rtol=0.01)


def test_recomputed_activations_change_no_gradient(tmp_path):
    config = registry.config_of("encoder", "w2v_bert_conformer_tiny")
    grads = []
    for again in (False, True):
        torch.manual_seed(0)
        encoder = registry.build(
            type(config)(**{**vars(config), "dropout": 0.2, "checkpoint_layers": again}), dim_in=8
        )
        encoder(Seq(torch.randn(2, 30, 8), torch.tensor([30, 11]))).last.x.square().sum().backward()
        grads.append([parameter.grad for parameter in encoder.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    upstream = build_upstream(registry.config_of("frontend", "fbank"), encoder.cfg)
    lost = [entry.key for entry in write(upstream, tmp_path / "a") if entry.fate is Fate.ignored]
    assert lost == ["encoder.checkpoint_layers"]
