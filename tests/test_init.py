"""`init=`: weights from other checkpoints, every tensor accounted for."""

import re

import pytest
import torch

from research import runs
from research.compose import compose_config
from research.errors import HarkError
from research.interop.initialise import initialise
from research.interop.load import read
from research.interop.origin import Origin, origins
from research.model import assemble
from tests.hf_models import CASES, random_model
from tests.origins import NEMO, TINY, make_run, recogniser


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run whose tensors are all moved by 1, of the model that the tests begin."""
    return make_run(tmp_path_factory.mktemp("sources"))


def begin(init, *overrides, folder=None):
    """Give the model before, the model after, and the first weights of TINY that `init` leaves."""
    cfg = compose_config([*TINY, *overrides]).config
    cfg.init = init
    model = assemble(cfg)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initialise(model, cfg, folder)
    return before, model.state_dict()


def changed(before, after):
    """Names of the tensors that were copied from `source`; the others are as they were."""
    found = {name for name, value in after.items() if torch.equal(value, before[name] + 1)}
    assert all(torch.equal(value, before[name]) for name, value in after.items() if name not in found)
    return found


def under(names, *parts):
    return {name for name in names if name.startswith(parts)}


def refused(init, words, *overrides, folder=None):
    with pytest.raises(HarkError, match=words) as caught:
        begin(init, *overrides, folder=folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the option


def test_both_spellings_work_on_the_command_line():
    assert compose_config(["init=runs/x-0123"]).config.init == "runs/x-0123"
    typed = "init=[{path: a.nemo, include: [encoder.*], exclude: [encoder.layers.?.*, head.*], rename: {encoder.layers: x.y}, "
    composed = compose_config([typed + "allow_missing: 0.25}, runs/y, {path: runs/z, step: 500}]"])
    assert origins(composed.config.init) == [
        Origin(
            "a.nemo", None, ["encoder.*"], ["encoder.layers.?.*", "head.*"], {"encoder.layers": "x.y"}, 0.25
        ),
        Origin("runs/y"),
        Origin("runs/z", 500),
    ]


def test_the_option_is_part_of_the_signature_and_survives_the_run_folder(tmp_path):
    typed = ([], ["init=a.nemo"], ["init=[{path: a.nemo, include: [encoder.*]}]"])
    composed = [compose_config([*words, f"run.folder={tmp_path}"]) for words in typed]
    assert len({runs.signature(one.config) for one in composed}) == 3
    for one in composed:
        path = runs.create(one.config, one.choices, one.overrides)
        assert runs.load_config(path).init == one.config.init
        assert runs.signature(runs.load_config(path)) == runs.signature(one.config)


def test_defect_25_null_values_count_as_not_given(source):
    """Two keys that are both null are no two sources, and a null key has its default."""
    for init in (None, [], [None, None]):
        before, after = begin(init)
        assert not changed(before, after)
    nulls = dict.fromkeys(("step", "include", "exclude", "rename", "allow_missing"))
    before, after = begin([None, {"path": str(source), **nulls}])
    assert changed(before, after) == set(after)


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ({"path": None}, r"init\[0\]=.*: give a path, or a mapping with the key 'path'"),
        (7, r"init\[0\]=7: give a path"),
        (
            ["a.nemo", {"path": "b", "includes": ["x"]}],
            r"init\[1\]\.includes=\['x'\]: Key 'includes' not in 'Origin'",
        ),
        ({"path": "b", "include": "encoder"}, r"init\[0\]\.include=encoder"),
        ({"path": "b", "allow_missing": 2}, r"init\[0\]\.allow_missing=2.0: is a share, from 0 to 1"),
        ("nowhere.nemo", "nowhere.nemo: no such file"),
        ("nowhere", "nowhere: nothing is here; hark opens"),
    ],
)
def test_a_wrong_option_is_one_line(init, words):
    refused(init, words)


# --- what is copied


def test_everything_of_a_run_is_copied(source):
    before, after = begin(str(source))
    assert changed(before, after) == set(after)


def test_everything_of_a_nemo_archive_is_copied():
    overrides = ("quantizer.codes=64", "frontend.normalize=per_feature", "encoder.dim=64")
    before, after = begin(str(NEMO), *overrides)
    theirs = read(NEMO).state
    assert theirs.keys() == after.keys()
    assert all(torch.equal(value, theirs[name].to(value.dtype)) for name, value in after.items())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())


def test_patterns_choose_and_a_later_source_wins(source, tmp_path):
    path = str(source)
    before, after = begin({"path": path, "include": ["encoder.*"], "exclude": ["encoder.layers.1.*"]})
    wanted = under(after, "encoder.") - under(after, "encoder.layers.1.")
    assert changed(before, after) == wanted
    newer = make_run(tmp_path, steps=(5,))
    before, after = begin([path, {"path": str(newer), "include": ["head.*"]}])
    assert torch.equal(after["head.weight"], before["head.weight"] + 5)
    assert torch.equal(after["mask_token.vector"], before["mask_token.vector"] + 1)


def test_defect_8_a_pattern_is_no_substring(source):
    """`layers.1` and `norm` stand in the middle of many names, and fit none."""
    for pattern in ("layers.1", "norm", "encoder", "ncoder.*"):
        refused({"path": str(source), "include": [pattern]}, f"include '{pattern}' fits no tensor")
    before, after = begin({"path": str(source), "include": ["*.norm.*"]})
    assert changed(before, after) == {name for name in after if ".norm." in name}


def test_defect_8_names_can_be_exchanged(source):
    """The blocks of the source go to other places: nothing is renamed in NeMo."""
    table = {"encoder.layers.0": "encoder.layers.1", "encoder.layers.1": "encoder.layers.0"}
    cfg = compose_config(list(TINY)).config
    cfg.init = {"path": str(source), "include": ["encoder.layers.*"], "rename": table}
    model = assemble(cfg)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initialise(model, cfg)
    after, name = model.state_dict(), "encoder.layers.{}.ff1.up.weight"
    assert torch.equal(after[name.format(0)], before[name.format(1)] + 1)
    assert torch.equal(after[name.format(1)], before[name.format(0)] + 1)
    refused(
        {"path": str(source), "rename": {"enc": "teacher"}},
        "rename 'enc' fits no tensor; did you mean 'encoder'",
    )
    refused(
        {"path": str(source), "rename": {"head": "mask_token", "head.weight": "mask_token.vector"}},
        "two tensors",
    )


# --- what is refused


def test_defect_8_a_pattern_that_fits_nothing_is_refused(source):
    """NeMo goes on in silence, with the weights that were drawn."""
    for key, pattern, whose in (
        ("include", "encodr.*", "this hark run checkpoint; did you mean 'encoder.*'?"),
        ("exclude", "decoder.*", "this hark run checkpoint"),
    ):
        said = refused({"path": str(source), key: [pattern]}, f"{key} '")
        assert said == f"init={source}: {key} '{pattern}' fits no tensor of {whose}" or said.startswith(
            f"init={source}: {key} '{pattern}' fits no tensor of {whose}"
        )
    gone = {"path": str(source), "rename": {"encoder": "teacher"}, "include": ["teacher.*"]}
    refused(gone, r"include 'teacher\.\*' fits no tensor of the model")


def test_a_shape_that_differs_is_refused_unless_excluded(source):
    said = refused(str(source), r"of 87 tensors of the model 3 have another shape", "quantizer.codes=32")
    assert "(1, 64, 16) there, (1, 32, 16) here; exclude them" in said
    begin(
        {"path": str(source), "exclude": ["head.*", "quantizer.*"], "allow_missing": 0.5},
        "quantizer.codes=32",
    )
    said = refused(str(source), "another shape", "encoder.dim=128", "encoder.depth=3")
    assert "type encoder.dim=64 encoder.depth=2 as there, or rename" in said


def test_too_much_that_is_missing_is_refused(source):
    deeper, some = "encoder.depth=4", {"path": str(source), "include": ["encoder.*"]}
    said = refused(some, "have no counterpart in this hark run checkpoint", deeper)
    found = re.search(r"of (\d+) tensors of the model (\d+) have .* the first is 'encoder.layers.2", said)
    assert "type encoder.depth=2 as there, or rename what has another name, or set allow_missing: 0." in said
    share = int(found[2]) / int(found[1])
    refused(some | {"allow_missing": share - 0.01}, "have no counterpart", deeper)
    _, after = begin(some | {"allow_missing": share + 0.01}, deeper)
    assert len(under(after, "encoder.")) == int(found[1])


def test_another_kind_of_model_is_one_line_that_says_what_to_type(source):
    said = refused(
        str(source),
        "of 83 tensors of the model 4 have no counterpart in this hark run checkpoint and 2 have another shape",
        "encoder=conformer_tiny",
        "encoder.stride=8",
        "encoder.channels=32",
    )
    assert "that is a model with encoder=fastconformer: type that, or" in said
    none_fits = {"path": str(source), "include": ["encoder.*"], "allow_missing": 1.0}
    refused(none_fits | {"rename": {"encoder": "encoder.layers"}}, "have no counterpart|fits no tensor")


def test_a_source_without_the_other_parts_gives_its_encoder(tmp_path):
    path = str(recogniser(tmp_path / "asr.nemo"))
    assert "include: [encoder.*] takes what is there" in refused(path, "the first is '", "quantizer.codes=64")
    before, after = begin({"path": path, "include": ["encoder.*"]})
    theirs = read(path).state
    assert all(torch.equal(after[name], theirs.get(name, value)) for name, value in before.items())


def test_a_wavlm_is_refused_by_a_fastconformer_in_one_line(tmp_path):
    random_model(*CASES["wavlm"]).save_pretrained(tmp_path)
    said = refused(
        str(tmp_path), r"of \d+ tensors of the model \d+ have no counterpart in this Hugging Face wavlm"
    )
    assert "the first is '" in said
    assert "that is a model with encoder=transformer: type that, or" in said


def test_a_failure_copies_nothing(source):
    cfg = compose_config(list(TINY)).config
    cfg.init = [str(source), {"path": str(source), "include": ["nothing.*"]}]
    model = assemble(cfg)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(HarkError):
        initialise(model, cfg)
    assert not changed(before, model.state_dict())


# --- the report


def test_defect_8_every_key_is_reported(source, tmp_path, capsys):
    """Loaded, skipped, missing and unexpected tensors, and options that differ; NeMo names the excluded only."""
    init = {
        "path": str(source),
        "exclude": ["head.*"],
        "rename": {"mask_token": "other"},
        "allow_missing": 0.1,
    }
    before, after = begin(init, "frontend.preemphasis=0.5", folder=tmp_path)
    text = (tmp_path / "init.txt").read_text()
    fates = dict(
        reversed(line.split())
        for line in text.splitlines()
        if line.startswith("  ") and "differs" not in line
    )
    assert fates.keys() == after.keys() | {"other.vector"}
    expected = {
        "mask_token.vector": "missing",
        "other.vector": "unexpected",
        "head.weight": "skipped",
        "head.bias": "skipped",
    }
    assert {name: fate for name, fate in fates.items() if fate != "loaded"} == expected
    assert {name for name, fate in fates.items() if fate == "loaded"} == changed(before, after)
    assert "differs     frontend.preemphasis: 0.97 there, 0.5 here" in text
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == text.splitlines()[0]
    assert line.endswith(f"{len(after) - 3} loaded, 2 skipped, 1 missing, 0 shape, 1 unexpected")
    assert re.search("^SHA-256 of what was copied: [0-9a-f]{64}$", text.splitlines()[-1])


def test_a_failure_is_reported_too(source, tmp_path):
    refused(str(source), "another shape", "quantizer.codes=32", folder=tmp_path)
    assert "shape       head.weight: (64, 64) there, (32, 64) here" in (tmp_path / "init.txt").read_text()
