"""One door: checkpoints of any origin open as an upstream, or say in one line why not."""

import pickle
import shutil

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from research import runs
from research.contracts import Seq
from research.engine.weights import MODEL
from research.errors import HarkError
from research.interop import hark_run, nemo, state
from research.interop.load import load, read
from research.interop.report import Fate
from research.model import assemble
from tests.origins import NEMO, make_run, members, recogniser, write_tar


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs"), steps=(1, 2, 3))


@pytest.fixture
def copied(run, tmp_path):
    return shutil.copytree(run, tmp_path / run.name)


def audio():
    return Seq(
        torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)), torch.tensor([16_000, 9_000])
    )


def assert_moved_by(upstream, run, step):
    state = assemble(runs.load_config(run)).state_dict()
    assert all(torch.equal(value, state[name] + step) for name, value in upstream.state_dict().items())


def test_a_run_opens_at_its_newest_step_or_another(run):
    upstream, report = load(run)
    assert_moved_by(upstream, run, 3)
    assert not upstream.training
    assert (upstream.dim, upstream.depth, upstream.period) == (64, 2, 0.08)
    ignored = report.keys(Fate.ignored)
    assert {name.split(".")[0] for name in ignored} == {"quantizer", "head", "mask_token"}
    assert set(report.keys(Fate.used)) == set(upstream.state_dict())
    for path, step in ((run, 2), (run / "checkpoints" / "step_2", None), (run / "checkpoints" / "step_2", 2)):
        assert_moved_by(load(path, step)[0], run, 2)
    assert read(run / "checkpoints").step == 3


def test_an_upstream_computes_what_the_objective_does(run):
    objective = assemble(runs.load_config(run))
    objective.load_state_dict(read(run).state)
    upstream, _ = load(run)
    with torch.no_grad():
        expected = objective.eval().encoder(objective.frontend(audio()), range(3))
        found = upstream(audio())
    assert all(map(torch.equal, found.layers, expected.layers))


def test_a_damaged_newest_checkpoint_is_passed_over(copied):
    file = copied / "checkpoints" / "step_3" / MODEL
    file.write_bytes(file.read_bytes()[:-5000])
    assert_moved_by(load(copied)[0], copied, 2)
    with pytest.raises(HarkError, match=r"damaged checkpoint: .*; take another step"):
        load(copied, 3)


def test_opening_draws_nothing_and_builds_no_source(run):
    """Of the model that a checkpoint was saved from, no parameter is made."""
    built = []

    def watch(module, name, value):
        if value.device.type != "meta":
            built.append(name)

    drawn = torch.get_rng_state()
    handle = register_module_parameter_registration_hook(watch)
    try:
        for path in (run, NEMO):
            read(path)
        assert not built
        nn.Linear(1, 1)
        assert built
    finally:
        handle.remove()
    torch.set_rng_state(drawn)
    load(run)
    assert torch.equal(drawn, torch.get_rng_state())


def test_a_nest_archive_opens_as_its_objective_does():
    upstream, report = load(NEMO)
    objective, whole = nemo.load(NEMO)
    with torch.no_grad():
        expected = objective.encoder(objective.frontend(audio()), range(3))
        found = upstream(audio())
    assert all(map(torch.equal, found.layers, expected.layers))
    assert {entry.key for entry in whole.options + whole.weights} < {entry.key for entry in report.weights}
    assert read(NEMO).state.keys() == objective.state_dict().keys()


def test_any_class_of_nemos_with_a_conformer_gives_its_encoder(tmp_path):
    path = recogniser(tmp_path / "asr.nemo")
    upstream, report = load(path)
    nest, _ = load(NEMO)
    assert all(torch.equal(value, nest.state_dict()[name]) for name, value in upstream.state_dict().items())
    assert "decoder.decoder_layers.0.weight" in report.keys(Fate.ignored)
    assert read(path).kind == "NeMo EncDecCTCModelBPE"
    with pytest.raises(HarkError, match=r"hark reads .* only"):
        nemo.load(path)


@pytest.mark.parametrize("layer", [-1, 3, 7])
def test_defect_22_a_layer_that_is_not_there_is_refused_with_those_that_are(run, layer):
    upstream, _ = load(run)
    with pytest.raises(HarkError, match=f"layer {layer}: there is none; the encoder has the layers 0 to 2"):
        upstream(audio(), [1, layer])


def one_line(path, words, step=None):
    with pytest.raises(HarkError, match=words) as caught:
        load(path, step)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_cannot_be_opened_is_one_line(run, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    one_line(
        tmp_path / "nowhere", "nothing is here; hark opens a hark run .*, a .nemo file, a Hugging Face folder"
    )
    one_line(tmp_path / "notes.txt", "is none of what hark opens; hark opens")
    one_line(tmp_path, "is none of what hark opens")
    one_line(NEMO, "is no hark run, so it has no step 3", step=3)
    one_line(run, r"no checkpoint of step 9 is here \(there are: 3, 2, 1\)", step=9)
    one_line(run / "checkpoints" / "step_2", "is step 2, not 3", step=3)
    with pytest.raises(HarkError, match=r"no checkpoint of step 9 is here"):
        load(run / "checkpoints" / "step_9")
    bare = make_run(tmp_path, steps=())
    one_line(bare, "no checkpoint of any step is here")


def test_weights_that_do_not_fit_their_config_are_refused(copied):
    file = copied / "checkpoints" / "step_3" / MODEL
    state = torch.load(file, weights_only=True)
    name = "encoder.layers.0.ff1.up.weight"
    for change, words in (
        ({name: state[name][:3]}, r"\(3, 64\) where its config asks for \(256, 64\)"),
        ({"encoder.more": torch.zeros(1)}, "encoder.more: its config has no place for this weight"),
    ):
        torch.save(state | change, file)
        one_line(copied, words)
    del state[name]
    torch.save(state, file)
    one_line(copied, f"{name}: this weight is missing")


def test_an_encoder_that_a_classifier_tuned_opens_with_its_new_weights(run, tmp_path):
    path = tmp_path / "tuned"
    file = path / "checkpoints" / "step_7" / MODEL
    file.parent.mkdir(parents=True)
    (path / "config.yaml").write_text(f"plugins: {{head: linear}}\nupstream: {{path: {run}, step: 2}}\n")
    before = {name: value for name, value in read(run, 2).state.items() if name.startswith("encoder.")}
    torch.save({name: value + 1 for name, value in before.items()} | {"head.weight": torch.zeros(2)}, file)
    after = load(path)[0].state_dict()
    assert all(torch.equal(after[name], value + 1) for name, value in before.items())
    assert (read(path).kind, read(path).step) == ("tuned hark run", 7)
    assert hark_run.pretraining(path) is None
    assert hark_run.pretraining(run) == runs.load_config(run)
    torch.save({"head.weight": torch.zeros(2)}, file)
    one_line(path, "its encoder was frozen, and is that of .*step_2: name that")


def test_a_state_file_opens_as_what_it_was_written_from(run, tmp_path):
    state.write(read(run), tmp_path / "model.safetensors")
    assert_moved_by(load(tmp_path / "model.safetensors")[0], run, 3)


class Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_defect_8_weights_are_read_as_data_only(copied, tmp_path, capsys):
    """No code in a checkpoint runs, and none needs to be allowed to: damaged and harmful files are one line each."""
    files = members()
    write_tar(tmp_path / "code.nemo", files | {"model_weights.ckpt": pickle.dumps(Harmful())})
    (tmp_path / "cut.nemo").write_bytes(NEMO.read_bytes()[: NEMO.stat().st_size // 2])
    one_line(tmp_path / "code.nemo", "model_weights.ckpt holds more than plain tensors")
    one_line(tmp_path / "cut.nemo", "not a whole .nemo archive")
    torch.save({"encoder": Harmful()}, copied / "checkpoints" / "step_3" / MODEL)
    one_line(copied, "damaged checkpoint", step=3)
    assert "code ran" not in capsys.readouterr().out
    assert_moved_by(load(copied)[0], copied, 2)
