"""NeMo's own models and what they computed (tests/fixtures/nemo, from NeMo 3.0.0): hark computes the same."""

import io
import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.interop.nemo import load
from research.interop.report import Fate
from research.nn.functional import select, stack

FIXTURES = Path(__file__).parent / "fixtures" / "nemo"
ARCHIVES = ("large_style", "xlarge_style")


@pytest.fixture(scope="module", params=ARCHIVES)
def case(request):
    """A loaded model, NeMo's arrays in hark's axis order on the frames that both have, and hark's own pass."""
    model, report = load(FIXTURES / request.param / "model.nemo")
    arrays = np.load(FIXTURES / request.param / "io.npz")
    nemo = SimpleNamespace(**{key: torch.from_numpy(value) for key, value in arrays.items()})
    with torch.no_grad():
        feats = model.frontend(Seq(nemo.audio, nemo.audio_len))  # (B, S, F)
        frames, tokens = feats.x.size(1), -(-feats.x.size(1) // 8)
        encoded = model.encoder(feats, range(1, model.encoder.depth + 1))
    nemo.mel = nemo.mel.mT[:, :frames]  # (B, S, F): NeMo pads S to a multiple of 16
    nemo.mask = nemo.mask[:, :frames]  # (B, S)
    nemo.tokens = nemo.tokens[:, :tokens]  # (B, T, G)
    nemo.layers = nemo.layers[:, :, :tokens]  # (L, B, T, D)
    nemo.encoded = nemo.encoded.mT[:, :tokens]  # (B, T, D)
    nemo.logp = nemo.logp.mT[:, :tokens]  # (B, T, G, V)
    return SimpleNamespace(model=model, report=report, nemo=nemo, feats=feats, encoded=encoded)


def furthest(mine, theirs, valid):
    return (mine - theirs)[valid].abs().max()


def test_mel(case):
    assert torch.equal(case.feats.lengths, case.nemo.mel_len)
    assert (case.feats.x - case.nemo.mel).abs().max() < 1e-4


def test_tokens(case):
    ids = case.model.quantizer(stack(case.feats.x, 8)).ids
    valid = case.encoded.last.valid
    assert torch.equal(ids[valid], case.nemo.tokens[valid])


def test_every_layer_and_the_encoder_output(case):
    last = case.encoded.last
    assert torch.equal(last.lengths, case.nemo.encoded_len)
    assert len(case.encoded.layers) == len(case.nemo.layers)
    for mine, theirs in zip(case.encoded.layers, case.nemo.layers, strict=True):
        assert furthest(mine, theirs, last.valid) < 1e-4
    assert furthest(last.x, case.nemo.encoded, last.valid) < 1e-4


def test_log_probabilities(case):
    last = case.encoded.last
    assert furthest(case.model.head(last.x).log_softmax(-1), case.nemo.logp, last.valid) < 1e-4


def test_loss(case):
    hit = stack(case.nemo.mask[..., None], 8).mean(-1) > case.model.cfg.threshold  # (B, T)
    ids = case.model.quantizer(select(stack(case.feats.x, 8), hit)).ids  # (M, G)
    loss = case.model.head.cross_entropy(select(case.encoded.last.x, hit), ids)
    assert abs(loss.total / loss.count - case.nemo.loss) < 1e-5


def test_report_accounts_for_every_key(case):
    report = case.report
    keys = [entry.key for entry in report.weights]
    archive = state_of(report.source)
    assert sorted(keys) == sorted(archive)
    assert len(set(keys)) == len(keys)
    assert not report.keys(Fate.missing)
    reasons = {entry.key: entry.note for entry in report.weights if entry.fate is Fate.ignored}
    assert all(reasons.values())
    assert all(key.startswith("preprocessor.") or key.endswith("num_batches_tracked") for key in reasons)
    used = {entry.note for entry in report.weights if entry.fate is Fate.used}
    assert used == set(case.model.state_dict())
    assert "0 missing" in str(report)


def test_the_model_is_ready_to_use(case):
    assert not case.model.training
    assert case.model.encoder.cfg.dropout == 0.1
    assert case.model.masking.cfg.length == 40


def test_defect_7_targets_need_no_fp64(case):
    """Codebooks are fp32, and l2 and cosine give the same codes."""
    quantizer = case.model.quantizer
    assert quantizer.codebook.dtype is torch.float32
    x = stack(case.feats.x, 8)[case.encoded.last.valid]  # (M, 640)
    ids = quantizer(x).ids
    y = torch.einsum("md,gdc->mgc", x, quantizer.projection).double()
    y = y / y.norm(dim=-1, keepdim=True)
    codes = quantizer.codebook.double()  # (G, V, C)
    assert torch.equal((y[:, :, None] - codes).square().sum(-1).argmin(-1), ids)
    assert torch.equal((y[:, :, None] * codes).sum(-1).argmax(-1), ids)


def test_defect_8_vectors_are_those_of_the_codes(case):
    quantizer = case.model.quantizer
    codes = quantizer(stack(case.feats.x, 8))
    vectors = codes.vectors.unflatten(-1, (quantizer.books, -1))  # (B, T, G, C)
    for book in range(quantizer.books):
        assert torch.equal(vectors[..., book, :], quantizer.codebook[book][codes.ids[..., book]])


def test_defect_11_a_length_needs_no_padding_to_a_multiple(case):
    """185 frames are no multiple of 8: alone, the row has the tokens it has in the padded batch."""
    quantizer, lengths = case.model.quantizer, case.feats.lengths
    assert any(length % 8 for length in lengths)
    for row, length, theirs in zip(case.feats.x, lengths, case.nemo.tokens, strict=True):
        ids = quantizer(stack(row[None, :length], 8)).ids[0]
        assert torch.equal(ids, theirs[: len(ids)])


def test_defect_23_tokens_do_not_depend_on_the_compute_dtype(case):
    with torch.autocast("cpu", torch.bfloat16):
        feats = case.model.frontend(Seq(case.nemo.audio, case.nemo.audio_len))
        ids = case.model.quantizer(stack(feats.x, 8)).ids
    valid = case.encoded.last.valid
    assert torch.equal(ids[valid], case.nemo.tokens[valid])


def members(path):
    with tarfile.open(path) as tar:
        return {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}


def state_of(path):
    return torch.load(io.BytesIO(members(path)["model_weights.ckpt"]), weights_only=True)


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def rewrite(path, config=None, weights=None):
    """Copy the small archive with its config or its weights changed."""
    files = members(FIXTURES / "large_style" / "model.nemo")
    if config:
        values = yaml.safe_load(files["model_config.yaml"])
        config(values)
        files["model_config.yaml"] = yaml.safe_dump(values).encode()
    if weights:
        state = torch.load(io.BytesIO(files["model_weights.ckpt"]), weights_only=True)
        weights(state)
        stream = io.BytesIO()
        torch.save(state, stream)
        files["model_weights.ckpt"] = stream.getvalue()
    return write_tar(path, files)


def put(section, key, value):
    return lambda values: values[section].__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("encoder", "self_attention_model", "abs_pos"), "encoder.self_attention_model=abs_pos"),
        (put("encoder", "conv_norm_type", "instance_norm"), "encoder.conv_norm_type=instance_norm"),
        (put("encoder", "subsampling", "vggnet"), "encoder.subsampling=vggnet"),
        (put("encoder", "subsampling_factor", 16), "subsampling_factor=16"),
        (put("encoder", "att_context_size", [[70, 1], [5, 5]]), "encoder.att_context_size"),
        (put("encoder", "causal_downsampling", True), "encoder.causal_downsampling=True"),
        (put("encoder", "conv_context_size", [4, 4]), "encoder.conv_context_size"),
        (put("encoder", "att_context_style", "chunked_limited_with_rc"), "encoder.att_context_style"),
        (put("encoder", "flux", 3), "encoder.flux=3"),
        (put("quantizer", "freeze", False), "quantizer.freeze=False"),
        (put("quantizer", "combine_time_steps", 4), "quantizer.combine_time_steps=4"),
        (put("quantizer", "layer_norm", True), "quantizer.layer_norm=True"),
        (put("preprocessor", "normalize", {"fixed_mean": 0}), "preprocessor.normalize"),
        (put("preprocessor", "log_zero_guard_value", "tiny"), "preprocessor.log_zero_guard_value=tiny"),
        (put("preprocessor", "window", "hamming"), "preprocessor.window=hamming"),
        (put("preprocessor", "window_size", 0.03), "preprocessor.featurizer.window"),
        (lambda values: values.pop("quantizer"), "quantizer: this section is missing"),
        (lambda values: values.update(target="nemo.EncDecCTCModel"), "target=nemo.EncDecCTCModel"),
        (lambda values: values.update(mask_position="post_conv"), "mask_position=post_conv"),
    ],
)
def test_a_config_that_hark_cannot_follow_is_refused(tmp_path, change, words):
    with pytest.raises(HarkError, match=words) as caught:
        load(rewrite(tmp_path / "model.nemo", config=change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("encoder.layers.1.self_attn.linear_k.weight"), "linear_k.weight"),
        (lambda state: state.update({"encoder.extra.weight": torch.zeros(3)}), "encoder.extra.weight"),
        (lambda state: state.update({"quantizer.codebooks": torch.zeros(1, 65, 16)}), "quantizer.codebooks"),
        (lambda state: state["preprocessor.featurizer.fb"].mul_(2), "preprocessor.featurizer.fb"),
    ],
)
def test_a_weight_without_an_explanation_is_refused(tmp_path, change, words):
    with pytest.raises(HarkError, match=words) as caught:
        load(rewrite(tmp_path / "model.nemo", weights=change))
    assert "\n" not in str(caught.value)


def test_other_spellings_that_mean_the_same_load(tmp_path):
    def change(values):
        values["quantizer"]["dist_fn"] = "cosine"
        values["encoder"] |= {
            "use_pytorch_sdpa": True,
            "sync_max_audio_length": False,
            "att_context_size": None,
        }
        del values["encoder"]["xscaling"]

    model, report = load(rewrite(tmp_path / "model.nemo", config=change))
    assert model.encoder.cfg.xscaling
    assert "used     encoder.xscaling: xscaling=True" in str(report)


def test_nemos_conformer_becomes_harks_conformer():
    """The full-convolution layout has other places for its weights: NeMo counts the ReLUs between."""
    from research.interop.nemo_weights import sources

    with torch.device("meta"):
        model = registry.build(registry.config_of("encoder", "conformer_tiny"), dim_in=80)
    keys = [key for name in model.subsampling.state_dict() for key in sources(f"encoder.subsampling.{name}")]
    places = [
        f"encoder.pre_encode.{layer}.{kind}"
        for layer in ("conv.0", "conv.2", "out")
        for kind in ("weight", "bias")
    ]
    assert keys == places


def test_damaged_archives_are_refused(tmp_path):
    whole = (FIXTURES / "large_style" / "model.nemo").read_bytes()
    files = members(FIXTURES / "large_style" / "model.nemo")
    broken = {
        "text.nemo": b"not a tar at all",
        "empty.nemo": b"",
        "cut.nemo": whole[: len(whole) // 2],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    write_tar(tmp_path / "weights.nemo", {"model_config.yaml": files["model_config.yaml"]})
    write_tar(tmp_path / "config.nemo", {"model_weights.ckpt": files["model_weights.ckpt"]})
    write_tar(tmp_path / "yaml.nemo", files | {"model_config.yaml": b"a: [1"})
    write_tar(tmp_path / "list.nemo", files | {"model_config.yaml": b"[1, 2]"})
    write_tar(tmp_path / "half.nemo", files | {"model_weights.ckpt": files["model_weights.ckpt"][:5000]})
    for path in [*tmp_path.glob("*.nemo"), tmp_path / "nowhere.nemo", tmp_path]:
        with pytest.raises(HarkError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_an_archive_runs_no_code_and_writes_no_file(tmp_path, capsys, monkeypatch):
    files = members(FIXTURES / "large_style" / "model.nemo")
    write_tar(tmp_path / "code.nemo", files | {"model_weights.ckpt": pickle.dumps(Harmful())})
    with pytest.raises(HarkError, match=r"model_weights\.ckpt holds more than plain tensors"):
        load(tmp_path / "code.nemo")
    assert "code ran" not in capsys.readouterr().out
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    load(write_tar(tmp_path / "up.nemo", {f"../../{name}": content for name, content in files.items()}))
    assert {path.name for path in tmp_path.iterdir()} == {"code.nemo", "up.nemo", "a"}
    assert not list(inside.iterdir())
