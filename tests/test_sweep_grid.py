"""A recipe's product becomes cells: composed as Hydra would, judged one by one, found by signature."""

import pytest

from research import runs
from research.compose import Variants, compose_config, recipes
from research.config import Config
from research.errors import HarkError
from research.launch.sweep.grid import cells, name_of, points
from research.launch.sweep.recipe import Recipe, read_recipe
from research.runs import signature

SMALL = ("encoder=fastconformer_tiny", "data.train=[x.jsonl]")


def grid(*words):
    return cells(read_recipe([*SMALL, *words]))


def test_a_grid_is_the_product_of_its_axes_in_the_order_typed():
    found = grid("quantizer.codes=64,128", "run.seed=range(3)")
    assert [cell.label for cell in found] == [
        f"quantizer.codes={codes} run.seed={seed}" for codes in (64, 128) for seed in range(3)
    ]
    for cell in found:
        config = cell.composed.config
        assert (config.quantizer.codes, config.run.seed) == tuple(map(int, cell.differs.values()))
        assert cell.path == runs.find(config)
        assert not cell.refused
    assert len({cell.path for cell in found}) == 6


VALUES = (
    "run.seed=7",
    "optimizer={lr: 0.5}",
    "train.precision=bf16",
    "data.valid=['a, b.jsonl',c]",
    "init=x",
)


@pytest.mark.parametrize("name", [None, *recipes("experiment")])
def test_cells_are_what_hydra_composes(name):
    shared = [f"experiment={name}"] if name else []
    variants = Variants(Config, shared)
    for values in (VALUES, VALUES[:1], ("run.seed=2", "cluster=slurm_h100"), ("+log.tags=[a]",)):
        one, other = variants.compose(values), compose_config([*shared, *values])
        assert one == other
        assert signature(one.config) == signature(other.config)
    assert variants.compose().config == compose_config(shared).config  # what was set on a copy stays there


@pytest.mark.parametrize(
    "value", ["encoder.dimm=3", "train.steps=abc", "objective=nestt", "run.seed=1,2", "~run.seed"]
)
def test_a_mistake_in_a_value_reads_as_hydra_composed_it(value):
    with pytest.raises(HarkError) as one:
        Variants(Config, SMALL).compose([value])
    with pytest.raises(HarkError) as other:
        compose_config([*SMALL, value])
    assert str(one.value) == str(other.value)
    assert value in str(one.value)


def test_plugins_and_recipes_are_axes_too():
    found = grid("objective=nest,best_rq", "schedule=glob(co*)")
    assert [(c.composed.choices["objective"], c.composed.choices["schedule"]) for c in found] == [
        (objective, schedule) for objective in ("nest", "best_rq") for schedule in ("constant", "cosine")
    ]


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("data.valid=[a,b],[c]", [["a", "b"], ["c"]]),
        ("data.valid=choice(['a,b.jsonl'],['it\\'s = one'])", [["a,b.jsonl"], ["it's = one"]]),
        ('data.valid=[],["x y"]', [[], ["x y"]]),
    ],
)  # fmt: skip
def test_lists_quotes_and_commas_survive(axis, expected):
    assert [cell.composed.config.data.valid for cell in grid(axis)] == expected


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("optimizer.lr=1e-3,0.5", [1e-3, 0.5]),
        ("optimizer.lr=range(0.5,2,0.5)", [0.5, 1, 1.5]),
        ("optimizer.lr=sort(3,1,2)", [1, 2, 3]),
        ("optimizer.lr=choice(2)", [2]),
    ],
)
def test_the_grammar_of_values_is_hydras(axis, expected):
    assert [cell.composed.config.optimizer.lr for cell in grid(axis)] == expected


def test_points_that_compute_the_same_are_one_cell():
    words = [*SMALL, "quantizer.codes=64,64,128", "cluster=local,slurm"]
    recipe = read_recipe(words)
    assert len(points(recipe)) == 6
    assert [cell.label for cell in cells(recipe)] == [f"quantizer.codes={n} cluster=local" for n in (64, 128)]


def test_an_illegal_cell_is_refused_alone():
    found = grid("masking=block,grid_block", "encoder.stride=3,4,8")
    legal, refused = [c for c in found if not c.refused], [c for c in found if c.refused]
    assert len(legal) + len(refused) == 6
    assert legal
    assert {cell.differs["encoder.stride"] for cell in refused} == {"3"}
    for cell in refused:
        assert cell.composed is None
        assert cell.path is None
        assert "\n" not in cell.refused


def test_a_name_that_is_wrong_refuses_its_cells_only():
    found = grid("objective=nest,nestt", "run.seed=0,1")
    assert ["no objective is called 'nestt'" in cell.refused for cell in found] == [False, False, True, True]


def test_a_mistake_of_all_cells_is_one_error():
    with pytest.raises(HarkError, match=r"did you mean .encoder\.dim."):
        grid("encoder.dimm=3", "run.seed=range(3)")


def test_a_grid_without_a_legal_cell_is_one_error():
    with pytest.raises(HarkError, match=r"no cell is legal; objective=nestt: .* did you mean 'nest'"):
        grid("objective=nestt,best_r")


@pytest.mark.parametrize("axis", ["run.seed=range(3,1)", "objective=glob(zz*)"])
def test_an_axis_has_values(axis):
    with pytest.raises(HarkError, match="an axis without values"):
        grid(axis)


def test_an_interval_is_no_list_of_values():
    with pytest.raises(HarkError, match=r"optimizer\.lr=interval\(0,1\): no list of values; `search:`"):
        grid("optimizer.lr=interval(0,1)")


def test_no_axis_is_one_cell():
    (cell,) = grid("run.name=single")
    assert cell.label == "the only one"
    assert cell.composed.config.log.tags == []


def test_the_sweep_and_the_axes_are_noted_in_the_config_but_not_signed():
    (cell, _) = grid("run.seed=0,1", "log.tags=[mine]", "run.name=mine")
    log = cell.composed.config.log
    assert (log.group, log.tags) == ("mine", ["mine", "run.seed=0"])
    assert signature(cell.composed.config) == signature(compose_config([*SMALL, "run.seed=0"]).config)


def test_a_sweep_is_called_as_typed_or_as_its_recipe_or_as_its_first_run():
    named = read_recipe(["tiny", "run.seed=0,1"], name="other")
    assert name_of(named, cells(named)) == "other"
    own = read_recipe(["tiny", "run.seed=0,1"])
    assert name_of(own, cells(own)) == "tiny"
    first = Recipe(shared=SMALL, axes={"run.name": "'a/b',c"})
    with pytest.raises(HarkError, match="a sweep cannot be called 'a/b'"):
        name_of(first, cells(first))


def test_a_run_under_another_name_is_found(tmp_path):
    words = ("run.seed=0,1", f"run.folder={tmp_path}")
    before = grid(*words, "run.name=one")
    before[0].path.mkdir()
    assert [cell.path.name.split("-")[0] for cell in grid(*words, "run.name=two")] == ["one", "two"]


@pytest.mark.parametrize("name", recipes("sweep"))
def test_our_own_recipes_are_legal(name):
    found = cells(read_recipe([name, "data.train=[x.jsonl]"]))
    assert len(found) >= 6
    assert not any(cell.refused for cell in found)
