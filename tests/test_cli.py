"""The command line answers, and imports no more than an answer needs."""

import subprocess
import sys

import pytest

from research import registry
from research.cli import main
from research.listing.table import summary


def test_help_imports_nothing_heavy():
    code = """
import contextlib, sys
from research.cli import COMMANDS, parse
for words in (["--help"], *([name, "--help"] for name in COMMANDS)):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(None):
        parse(words)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "torch",
        "numpy",
        "hydra",
        "fairseq2",
        "lhotse",
        "wandb",
        "sklearn",
        "matplotlib",
        "pandas",
        "soxr",
    }
    assert heavy.isdisjoint(done.stdout.split())


def test_list_imports_no_engine():
    code = "import sys; from research.cli import main; main(['list']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"fairseq2", "lhotse", "wandb", "sklearn", "matplotlib", "pandas", "scipy"}
    assert heavy.isdisjoint(done.stdout.split())


def test_list_names_every_plugin_with_its_docstring(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for kind in registry.KINDS:
        for name in registry.names(kind):
            assert name in shown
    assert "Codes of the clean signal" in shown


def test_list_of_one_kind_leaves_the_others_out(capsys):
    main(["list", "masking"])
    shown = capsys.readouterr().out
    assert "grid_block" in shown
    assert "fastconformer" not in shown


def test_show_prints_the_docstring_and_the_resolved_config(capsys):
    main(["show", "objective=nest", "objective.threshold=0.7"])
    shown = capsys.readouterr().out
    assert "arXiv 2408.13106" in shown
    assert "threshold: 0.7" in shown
    assert "trained parameters" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "objectve"], "did you mean 'objective'?"),
        (["show", "objective=nst"], "did you mean 'nest'?"),
        (["train"], "data.train names no manifest"),
        (["train", "data.train=[/nowhere.jsonl]"], "/nowhere.jsonl"),
        (["probe", "/nowhere"], "/nowhere: nothing is here"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.startswith("hark: ")
    assert said.count("\n") == 1


def test_a_plugin_that_does_not_import_is_one_line_and_no_obstacle(tmp_path):
    (tmp_path / "lame.py").write_text("import no_such_module\n")
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", "list", "masking"],
        capture_output=True, text=True, check=True, env={"HARK_PLUGINS": "lame", "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    place = f"{tmp_path}/lame.py:1"
    assert (
        done.stderr
        == f"hark: skipped plugin lame ({place}): ModuleNotFoundError: No module named 'no_such_module'\n"
    )
    assert "block" in done.stdout


def test_a_preset_is_listed_by_what_it_sets():
    registry.load_plugins()
    assert (
        summary("encoder", "fastconformer_tiny") == "fastconformer with dim=64, depth=2, heads=4, channels=32"
    )
    assert summary("encoder", "fastconformer_large") == "fastconformer with its defaults"
    assert summary("encoder", "fastconformer").startswith("Conformer behind")


def test_a_file_is_a_plugin_wherever_it_lies(tmp_path):
    code = "from dataclasses import dataclass\nfrom plugins.masking.block import Block\n"
    code += "from research.registry import preset\npreset('mine_short', Block.Config(length=5))\n"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "short_blocks.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", "list", "masking"], cwd=tmp_path,
        capture_output=True, text=True, check=True, env={"HARK_PLUGINS": "own/short_blocks.py"},
    )  # fmt: skip
    assert "block with length=5" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("word", "says"),
    [("nowhere.py", "nowhere.py: no such file"), ("colorsys.py", "call the file by another name")],
)
def test_a_file_that_cannot_be_a_plugin_is_refused(word, says, tmp_path, monkeypatch, capsys):
    (tmp_path / "colorsys.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARK_PLUGINS", word)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["list", "masking"]) == 2
    assert says in capsys.readouterr().err
