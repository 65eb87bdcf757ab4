"""A folder of the user's own is found beside ours, by every command that composes."""

import os

import pytest

from research.classification.config import Classification
from research.cli import COMMANDS, main, parse
from research.compose import SWEEPS, compose_config, compose_root
from research.errors import HarkError
from research.launch.sweep.recipe import read_recipe


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with one recipe of each kind; its name is not a plain word."""
    folder = tmp_path / "my, 'own' [folder]"
    texts = {
        "experiment/mine": "# @package _global_\n# What we do. And more.\ndefaults: [/experiment/nest_demo]\ntrain: {steps: 77}",
        "cluster/slurm": "scheduler: slurm\npartition: gpu",
        "classify/ours": "# @package _global_\nseeds: 9",
        "sweep/seeds": "grid: {run.seed: range(9)}",
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setenv("HARK_CONFIG_DIR", str(folder))
    return folder


def test_recipes_are_found_beside_ours_and_build_on_them(own):
    config = compose_config(["experiment=mine"]).config
    assert config.train.steps == 77
    assert config.encoder.depth == 3  # of nest_demo
    assert compose_config(["experiment=w2v_bert_demo", "cluster=slurm_h100"]).config.cluster.device == "h100"
    assert compose_root(Classification, ["classify=ours"]).config.seeds == 9
    assert read_recipe(["seeds"]).axes == {"run.seed": "range(9)"}
    assert read_recipe(["tiny"]).axes


def test_of_two_with_one_name_the_users_counts(own):
    assert (SWEEPS / "cluster" / "slurm.yaml").exists()
    assert compose_config(["cluster=slurm"]).config.cluster.partition == "gpu"


def test_a_mistake_names_recipes_of_both(own):
    with pytest.raises(HarkError, match=r"did you mean 'mine'\? \(there are: .*mine, .*nest_demo"):
        compose_config(["experiment=minee"])


def test_the_option_sets_it_for_this_command_and_its_jobs(own, monkeypatch, capsys):
    monkeypatch.setenv("HARK_CONFIG_DIR", "nowhere")
    monkeypatch.chdir(own.parent)
    assert main(["show", "--config-dir", own.name, "experiment=mine"]) == 0
    assert "steps: 77" in capsys.readouterr().out
    assert os.environ["HARK_CONFIG_DIR"] == str(own)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.recipes])
def test_every_command_that_composes_takes_it_anywhere(name):
    before, behind = ([], []) if name == "list" else (["a=b"], ["c=d"])
    assert parse([name, *before, "--config-dir", "x", *behind]).config_dir == "x"


def test_list_names_its_recipes(own, capsys):
    assert main(["list", "experiment"]) == 0
    shown = capsys.readouterr().out
    assert "What we do.\n" in shown.replace(" ", "").replace("Whatwedo.", "What we do.")
    assert "nest_demo" in shown
    assert "log_mel" not in shown


def test_a_folder_that_is_not_there_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HARK_CONFIG_DIR", "")
    assert main(["show", "--config-dir", str(tmp_path / "none")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"hark: --config-dir={tmp_path}/none: no such folder")
    assert said.count("\n") == 1
