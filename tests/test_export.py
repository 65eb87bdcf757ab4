"""`hark export`: every format opens again with equal weights and outputs, or says in one line why it cannot be."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModel, dynamic_module_utils
from transformers import SeamlessM4TFeatureExtractor as Extractor

from research import registry, runs
from research.cli import main
from research.compose import compose_config
from research.contracts import Seq
from research.engine.weights import MODEL
from research.errors import HarkError
from research.interop import nemo
from research.interop.archive import read_archive
from research.interop.described import plain
from research.interop.export import export
from research.interop.load import load, read
from research.interop.nemo_config import to_config
from research.model import assemble

FIXTURES = Path(__file__).parent / "fixtures" / "nemo"
TINY = ("data.train=[]", "quantizer.codes=48", "quantizer.books=2", "encoder=fastconformer_tiny")
CONFORMER = (
    "encoder=conformer_tiny",
    "encoder.conv_norm=layer",
    "encoder.context=[20,4]",
    "encoder.layer_drop=0.1",
    "encoder.bias=false",
    "masking=grid_block",
    "frontend.normalize=none",
    "objective.threshold=0.5",
)
W2V_BERT = ("frontend=fbank", "encoder=w2v_bert_conformer_tiny")
WAVE = ("frontend=conv_wave", "frontend.channels=32", "encoder=transformer_tiny")


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    registry.load_plugins()


def run_of(folder, *overrides, steps=(3,)):
    """A run folder with random weights, as if it had been trained."""
    composed = compose_config([*TINY, *overrides, f"run.folder={folder}"])
    path = runs.create(composed.config, composed.choices, composed.overrides)
    model = assemble(composed.config)
    for step in steps:
        torch.manual_seed(step)
        for name, value in model.state_dict().items():
            if value.is_floating_point() and "quantizer" not in name:
                value.add_(torch.rand(value.shape) * 0.1)
        file = path / "checkpoints" / f"step_{step}" / MODEL
        file.parent.mkdir(parents=True)
        torch.save(model.state_dict(), file)
    return path, model.eval()


def audio():
    source = torch.Generator().manual_seed(0)
    lengths = torch.tensor([24_000, 17_001])
    x = 0.1 * torch.randn(2, 24_000, generator=source)
    return Seq(x * (torch.arange(24_000) < lengths[:, None]), lengths)


def outputs(model, seq):
    with torch.no_grad():
        return model.encoder(model.frontend(seq), range(model.encoder.depth + 1))


def same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_a_state_holds_everything_and_opens_as_an_upstream(tmp_path):
    path, model = run_of(tmp_path / "runs")
    export(path, "state", tmp_path / "out" / "x.safetensors")
    source = read(tmp_path / "out" / "x.safetensors")
    assert all(torch.equal(source.state[key], value) for key, value in model.state_dict().items())
    upstream, report = load(tmp_path / "out" / "x.safetensors")
    assert same_weights(upstream.encoder, model.encoder)
    assert upstream.encoder.cfg == model.encoder.cfg
    assert "neither of the frontend nor of the encoder" in str(report)
    said = yaml.safe_load((tmp_path / "out" / "x.yaml").read_text())
    assert said["encoder"]["dim"] == 64
    with safe_open(tmp_path / "out" / "x.safetensors", "pt") as file:
        assert yaml.safe_load(file.metadata()["hark"]) == said


def test_a_state_is_made_of_any_checkpoint(tmp_path):
    export(FIXTURES / "large_style" / "model.nemo", "state", tmp_path / "x.safetensors")
    theirs, _ = load(FIXTURES / "large_style" / "model.nemo")
    mine, _ = load(tmp_path / "x.safetensors")
    assert same_weights(mine, theirs)


def test_the_step_is_chosen(tmp_path):
    path, model = run_of(tmp_path / "runs", steps=(3, 5))
    for step in (None, 5, 3):
        export(path, "state", tmp_path / f"{step}.safetensors", step)
    newest, five, three = (load(tmp_path / f"{step}.safetensors")[0].encoder for step in (None, 5, 3))
    assert same_weights(newest, model.encoder)
    assert same_weights(five, newest)
    assert not same_weights(three, newest)


@pytest.mark.parametrize("style", ["large_style", "xlarge_style"])
def test_a_nemo_archive_is_written_as_nemo_wrote_it(tmp_path, style, monkeypatch):
    """NeMo's own archive, as a run of hark's, becomes an archive of the same keys, shapes, types and values."""
    original = FIXTURES / style / "model.nemo"
    values, theirs = read_archive(original)
    config, _ = to_config(values)
    model, _ = nemo.load(original)
    path, _ = run_of(tmp_path / "runs")
    torch.save(model.state_dict(), path / "checkpoints" / "step_3" / MODEL)
    monkeypatch.setattr(runs, "load_config", lambda _: config)
    export(path, "nemo", tmp_path / "x.nemo")
    written, mine = read_archive(tmp_path / "x.nemo")
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert (mine[key].shape, mine[key].dtype) == (value.shape, value.dtype), key
        assert torch.equal(mine[key].float(), value.float()), key
    for name in ("preprocessor", "encoder", "quantizer", "masking", "decoder", "loss"):
        shared = values[name].keys() - {"pad_to", "pos_emb_max_len"}
        assert {key: written[name][key] for key in shared} == {key: values[name][key] for key in shared}
    assert written["target"] == values["target"]


@pytest.mark.parametrize("overrides", [(), CONFORMER])
def test_a_nemo_archive_reads_back_bit_equal(tmp_path, overrides):
    path, model = run_of(tmp_path / "runs", *overrides)
    export(path, "nemo", tmp_path / "x.nemo")
    again, _ = nemo.load(tmp_path / "x.nemo")
    assert same_weights(again, model)
    for part in ("frontend", "encoder", "masking"):
        assert plain(getattr(again, part).cfg) == plain(getattr(model, part).cfg)
    assert again.cfg == model.cfg
    mine, theirs = outputs(model, audio()), outputs(again, audio())
    assert torch.equal(mine.last.x, theirs.last.x)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("encoder.positions=rope",), "no word for rope"),
        (("encoder.conv_norm=group",), "no word for group"),
        (("quantizer=best_rq",), r"quantizer\.layer_norm=True"),
        (("objective=best_rq",), "objective=best_rq"),
        (("masking=span",), "masking=span"),
        (("frontend=fbank",), "frontend=fbank"),
    ],
)
def test_what_nemo_has_not_is_refused(tmp_path, overrides, words):
    path, _ = run_of(tmp_path / "runs", *overrides)
    with pytest.raises(HarkError, match=words) as caught:
        export(path, "nemo", tmp_path / "x.nemo")
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


def test_a_fastconformer_opens_with_transformers(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    path, model = run_of(tmp_path / "runs")
    export(path, "hf", tmp_path / "out")
    theirs, info = AutoModel.from_pretrained(
        tmp_path / "out", trust_remote_code=True, output_loading_info=True
    )
    assert not any(info.values())
    seq = audio()
    mask = seq.valid.long()
    with torch.no_grad():
        found = theirs.eval()(seq.x, attention_mask=mask, output_hidden_states=True)
        short = theirs(seq.x).last_hidden_state
    mine = outputs(model, seq)
    assert found.lengths.tolist() == mine.last.lengths.tolist()
    assert torch.equal(found.last_hidden_state, found.hidden_states[-1])
    for a, b in zip(found.hidden_states, mine.layers, strict=True):
        assert (a - b).abs().max() < 1e-4  # transformers lays the convolutions' weights out otherwise
    assert (short - mine.last.x)[1].abs().max() > 1e-2  # without a mask the padding is heard
    theirs.save_pretrained(tmp_path / "again")
    again = AutoModel.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert same_weights(again.encoder, model.encoder)


def test_a_w2v_bert_opens_with_transformers_alone(tmp_path):
    path, model = run_of(tmp_path / "runs", *W2V_BERT)
    assert export(path, "hf", tmp_path / "out")
    theirs = AutoModel.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "Wav2Vec2BertModel"
    seq = audio()
    rows = [row[:length].numpy() for row, length in zip(seq.x, seq.lengths, strict=True)]
    inputs = Extractor.from_pretrained(tmp_path / "out")(rows, sampling_rate=16_000, return_tensors="pt")
    mine = outputs(model, seq).last
    with torch.no_grad():
        found = theirs(**inputs).last_hidden_state[:, : mine.x.size(1)]
    assert (found - mine.x)[mine.valid].abs().max() < 1e-4


def test_a_transformer_becomes_one_of_fairseq2(tmp_path):
    path, model = run_of(tmp_path / "runs", *WAVE)
    export(path, "fairseq2", tmp_path / "x.pt")
    again, _ = load(tmp_path / "x.pt")
    assert same_weights(again.encoder, model.encoder)
    assert same_weights(again.frontend, model.frontend)


def test_the_command_says_where_the_export_is(tmp_path, capsys):
    path, _ = run_of(tmp_path / "runs", *W2V_BERT)
    out = tmp_path / "x.safetensors"
    assert main(["export", str(path), str(out), "--to", "state"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["export", str(path), str(tmp_path / "hf"), "--to", "hf", "--report"]) == 0
    assert "used     encoder.layers.0.ff1.up.weight" in capsys.readouterr().out


def test_bad_input_is_one_line(tmp_path, capsys):
    path, _ = run_of(tmp_path / "runs")
    (tmp_path / "there.nemo").touch()
    nothing = tmp_path / "nothing.safetensors"
    torch.save({}, tmp_path / "plain.bin")
    nothing.write_bytes(b"nothing")
    wrong = {
        ("nowhere", "x.nemo", "nemo"): "nothing is here",
        (path, "there.nemo", "nemo"): "is there already",
        (path, "x.pt", "nemo"): r"end in .nemo",
        (path, "x", "state"): "ends in .safetensors",
        (path, "x.pt", "fairseq2"): "frontend LogMel",
        (FIXTURES / "large_style" / "model.nemo", "x.nemo", "nemo"): "is made of a hark run",
        (nothing, "x.safetensors", "state"): "cannot be read",
        (tmp_path / "plain.bin", "x.safetensors", "state"): "is none of what hark opens",
    }
    for (source, out, to), words in wrong.items():
        assert main(["export", str(source), str(tmp_path / out), "--to", to]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    names = {"runs", "there.nemo", "nothing.safetensors", "plain.bin"}
    assert {file.name for file in tmp_path.iterdir()} == names


def test_a_file_of_another_program_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(HarkError, match="its header does not say"):
        read(tmp_path / "x.safetensors")
    header = {"plugins": {"frontend": "log_mel", "encoder": "none"}, "frontend": {}, "encoder": {}}
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", {"hark": yaml.safe_dump(header)})
    with pytest.raises(HarkError, match="no encoder is called 'none'"):
        read(tmp_path / "x.safetensors")


def test_a_model_that_transformers_has_half_of_is_refused(tmp_path):
    path, _ = run_of(tmp_path / "runs", "encoder=transformer_tiny")
    with pytest.raises(HarkError, match="frontend LogMel"):
        export(path, "hf", tmp_path / "x")
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]
