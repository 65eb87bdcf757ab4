"""Configs compose into types, and every mistake is one line that names the key."""

import subprocess
import sys
from pathlib import Path

import pytest

from research import registry, runs
from research.compose import compose_config
from research.errors import HarkError
from research.model import check
from research.runs import signature

ROOT = Path(__file__).parents[1]


def compose(*overrides):
    return compose_config(["data.train=[x.jsonl]", *overrides])


def test_choices_are_typed_and_defaults_come_from_the_plugin():
    composed = compose(
        "objective=nest", "encoder=fastconformer_tiny", "encoder.dropout=0.3", "quantizer.codes=64"
    )
    assert composed.config.encoder.dropout == 0.3
    assert type(composed.config.objective).__qualname__ == "NEST.Config"
    assert composed.choices["encoder"] == "fastconformer_tiny"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("objective=nestt", "no objective is called 'nestt'; did you mean 'nest'?"),
        ("encoder=fastconformer_larg", "did you mean 'fastconformer_large'?"),
        ("encoder.dimm=3", "encoder.dimm=3: Key 'dimm' not in 'Config'; did you mean 'encoder.dim'?"),
        ("train.stepss=3", "did you mean 'train.steps'?"),
        ("trainn.steps=3", "did you mean 'train.steps'?"),
        ("schedul=noam", "unknown key 'schedul'; did you mean 'schedule'?"),
        ("train.steps=abc", "train.steps=abc: Value 'abc' of type 'str' could not be converted to Integer"),
        ("train.precision=fp8", "train.precision=fp8: Invalid value 'fp8', expected one of [fp32, bf16]"),
        ("data.train=3", "data.train=3: Invalid value assigned"),
        ("nonsense", "nonsense: an override reads key=value"),
        ("experiment=nothing", "no experiment is called 'nothing'"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(override, words):
    with pytest.raises(HarkError) as error:
        compose(override)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_command_line_tells_a_mistake_in_one_line_with_exit_code_2():
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", "train", "objective=nestt"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("hark: objective=nestt: no objective is called 'nestt'")


def test_an_illegal_combination_is_refused_before_anything_is_built():
    with pytest.raises(HarkError, match="type quantizer=random_projection"):
        check(compose("quantizer=none").config)


def test_every_recipe_composes_and_builds():
    for path in sorted((ROOT / "sweeps" / "experiment").glob("*.yaml")):
        check(compose(f"experiment={path.stem}").config)


def test_no_plugin_is_broken():
    registry.load_plugins()
    assert registry.broken == {}


class TestSignature:
    def of(self, *overrides):
        return signature(compose(*overrides).config)

    @pytest.mark.parametrize(
        "override",
        [
            "run.name=other",
            "run.folder=/elsewhere",
            "log.wandb=disabled",
            "data.workers=7",
            "checkpoint.every=3",
        ],
    )
    def test_how_and_where_do_not_count(self, override):
        assert self.of(override) == self.of()

    @pytest.mark.parametrize(
        "override",
        ["run.seed=1", "encoder.dropout=0.2", "masking=span", "data.batch_seconds=7", "objective=best_rq"],
    )
    def test_what_is_computed_counts(self, override):
        assert self.of(override) != self.of()

    def test_a_preset_and_its_values_typed_out_are_the_same_run(self):
        small = compose("encoder=fastconformer_small").config.encoder
        typed = [f"encoder.{name}={getattr(small, name)}" for name in ("dim", "depth", "heads", "kernel")]
        assert self.of("encoder=fastconformer_small") == self.of("encoder=fastconformer_medium", *typed)


def test_a_run_folder_gives_its_config_back(tmp_path):
    composed = compose(
        f"run.folder={tmp_path}", "encoder=fastconformer_tiny", "schedule=cosine", "run.seed=5"
    )
    path = runs.create(composed.config, composed.choices, composed.overrides)
    loaded = runs.load_config(path)
    assert loaded == composed.config
    assert path.name == f"run-{signature(loaded)}"
    assert {file.name for file in path.iterdir()} == {"config.yaml", "overrides.yaml", "code.json"}
