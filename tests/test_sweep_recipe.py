"""Recipes of sweeps are read with what is typed beside them; a mistake is one line that names the file and the key."""

import pytest

from research.errors import HarkError
from research.launch.sweep.recipe import Direction, Prune, Sampler, Search, read_recipe

GOOD = """
name: codes
set: [experiment=nest_demo, train.steps=10]
grid:
  objective: nest,best_rq
  run.seed: range(3)
search: {metric: probe/phone, direction: maximize, trials: 5, prune: median, warmup: 100}
probe: [--probe, phone]
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Write a recipe into a folder of the user's and read it with what is typed."""
    monkeypatch.setenv("HARK_CONFIG_DIR", str(tmp_path))
    (tmp_path / "sweep").mkdir()

    def read(text, *words, name=""):
        (tmp_path / "sweep" / "mine.yaml").write_text(text)
        return read_recipe(["mine", *words], name)

    return read


def test_a_recipe_is_read(recipe):
    found = recipe(GOOD)
    assert found.name == "codes"
    assert found.shared == ("experiment=nest_demo", "train.steps=10")
    assert found.axes == {"objective": "nest,best_rq", "run.seed": "range(3)"}
    assert found.probe == ("--probe", "phone")
    assert found.search == Search(
        "probe/phone", Direction.maximize, trials=5, parallel=4, seed=0, sampler=Sampler.tpe, prune=Prune.median, warmup=100
    )  # fmt: skip


def test_a_recipe_is_called_as_its_file_and_needs_nothing(recipe):
    found = recipe("set: []")
    assert (found.name, found.shared, found.axes, found.search, found.probe) == ("mine", (), {}, None, ())
    assert recipe("set: []", name="typed").name == "typed"


def test_what_is_typed_wins(recipe):
    found = recipe(
        GOOD, "train.steps=20", "objective=nest", "run.seed=5,6", "optimizer.lr=1e-3,1e-4", "masking=block"
    )
    assert found.shared == ("experiment=nest_demo", "train.steps=20", "objective=nest", "masking=block")
    assert found.axes == {"run.seed": "5,6", "optimizer.lr": "1e-3,1e-4"}
    typed = recipe(GOOD, "train.steps=10,20")
    assert typed.shared == ("experiment=nest_demo",)
    assert list(typed.axes) == ["objective", "run.seed", "train.steps"]
    assert recipe(GOOD, "run.seed=1,2", "run.seed=3").axes == {"objective": "nest,best_rq"}


def test_a_sweep_needs_no_recipe():
    found = read_recipe(["objective=nest", "run.seed=range(2)", "data.train=[a,b]", "~experiment"])
    assert found.name == ""
    assert found.shared == ("objective=nest", "data.train=[a,b]", "~experiment")
    assert found.axes == {"run.seed": "range(2)"}


def test_numbers_of_yaml_are_values(recipe):
    assert recipe("grid: {run.seed: 3, optimizer.lr: 0.5}").axes == {"run.seed": "3", "optimizer.lr": "0.5"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grids: {a: b}", "unknown key 'grids'; did you mean 'grid'?"),
        ("- a", "is not a mapping"),
        ("", "is not a mapping"),
        ("grid: {a: [", "is not YAML"),
        ("grid: [a, b]", "grid is not a mapping"),
        ("grid: {run.seed: }", "grid: run.seed has no values"),
        ("grid: {run.seed: ''}", "grid: run.seed has no values"),
        ("grid: {quantizer.codes: [64, 128]}", "grid: quantizer.codes is not text; write quantizer.codes: a,b"),
        ("grid: {run.seed: 'range('}", "grid: run.seed=range(: Hydra cannot read"),
        ("set: experiment=nest_demo", "set is not a list of words"),
        ("set: [3]", "set is not a list of words"),
        ("set: ['run.seed=1,2']", "set: run.seed=1,2 has several values; it belongs into grid"),
        ("set: [nonsense]", "set: nonsense: Hydra cannot read"),
        ("probe: phone", "probe is not a list of words"),
        ("search: valid/loss", "search is not a mapping"),
        ("search: {metrics: valid/loss}", "search: unknown key 'metrics'; did you mean 'metric'?"),
        ("search: {trials: 3}", "search: metric is missing"),
        ("search: {metric: a, direction: up}", "search: Invalid value 'up', expected one of [minimize, maximize]"),
        ("search: {metric: a, trials: 0}", "search: trials and parallel are 1 or more"),
        ("name: a/b", "a sweep cannot be called 'a/b'"),
        ("name: code", "a sweep cannot be called 'code'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_file_and_the_key(recipe, tmp_path, text, words):
    with pytest.raises(HarkError) as error:
        recipe(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert f"{tmp_path}/sweep/mine.yaml: " in str(error.value)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["nest_code"], r"no sweep is called 'nest_code'; did you mean 'nest_codes'\? \(there are: .*tiny\)"),
        (["tiny", "nest_codes"], "tiny nest_codes: a sweep has one recipe"),
        (["run.seed=[1"], r"run\.seed=\[1: Hydra cannot read"),
    ],
)
def test_a_mistake_in_what_is_typed_is_one_line(typed, words):
    with pytest.raises(HarkError, match=words) as error:
        read_recipe(typed)
    assert "\n" not in str(error.value)
