"""The code of a sweep is copied once, and its jobs import nothing else."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from research import registry, runs
from research.errors import HarkError
from research.launch.sweep.snapshot import environment, own_plugins, snapshot

PLUGIN = "import my_layers\nWORD = 'first'\n"
MAKE = """
import sys
from pathlib import Path
sys.path.insert(0, ".")  # as the command line does
from research import registry
from research.launch.sweep.snapshot import snapshot
registry.load_plugins()
print(snapshot(Path("runs/sweeps/code")))
"""
JOB = """
import json
import research, plugins, my_objective, my_layers
from research import registry, runs
from research.compose import SWEEPS
registry.load_plugins()
import plugins.masking.mine
files = [module.__file__ for module in (research, plugins, my_objective, my_layers, plugins.masking.mine)]
words = my_objective.WORD, plugins.masking.mine.WORD
broken = [str(error) for error in registry.broken.values()]
print(json.dumps([files + [str(SWEEPS)], words, broken, runs.code_version()]))
"""


def git(folder, *words):
    who = ("-c", "user.name=me", "-c", "user.email=me@here")
    return subprocess.run(
        ["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def python(code, folder, env):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A checkout of hark as it is here, with a plugin that is not committed, and one in the working folder."""
    folder = tmp_path_factory.mktemp("pristine")
    for name in ("research", "plugins", "sweeps"):
        shutil.copytree(runs.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("runs/\n__pycache__/\n*.log\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "all")
    (folder / "plugins" / "masking" / "mine.py").write_text("WORD = 'first'\n")
    (folder / "my_objective.py").write_text(PLUGIN)
    (folder / "my_layers.py").write_text("")
    return folder


@pytest.fixture
def checkout(pristine, tmp_path, monkeypatch):
    folder = shutil.copytree(pristine, tmp_path / "checkout")
    monkeypatch.setattr(runs, "ROOT", folder)
    monkeypatch.setattr(registry, "outside", list)
    return folder


def files(path):
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("word", ["my_objective", "my_objective.py"])
def test_a_job_imports_the_snapshot_whatever_is_installed_or_edited(checkout, monkeypatch, word):
    named = str(checkout / word) if word.endswith(".py") else word
    mine = {"HARK_PLUGINS": named, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"}
    monkeypatch.setattr(sys, "path", [*sys.path])
    made = runs.Path(python(MAKE, checkout, mine))
    commit = git(checkout, "rev-parse", "HEAD")
    assert made.parent == checkout / "runs" / "sweeps" / "code"
    assert made.name.startswith(commit[:10])
    edited = "WORD = 'second'\nraise ValueError('edited')\n"
    for name in ("my_objective.py", "plugins/masking/mine.py", "research/__init__.py", "plugins/__init__.py"):
        (checkout / name).write_text(edited)
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    found, words, broken, version = json.loads(python(JOB, checkout, environment(made)))
    assert all(file.startswith(f"{made}/") for file in found), found
    assert words == ["first", "first"]
    assert broken == []
    assert (version["commit"], version["diff"]) == (commit, "")


def test_the_same_code_is_copied_once_and_other_code_apart(checkout, tmp_path):
    first = snapshot(tmp_path / "code")
    assert snapshot(tmp_path / "code") == first
    plugin = checkout / "plugins" / "masking" / "mine.py"
    plugin.write_text("WORD = 'second'\n")
    second = snapshot(tmp_path / "code")
    assert second != first
    assert (first / "plugins" / "masking" / "mine.py").read_text() == "WORD = 'first'\n"
    recipe = next((checkout / "sweeps").rglob("*.yaml"))
    recipe.write_text("steps: 1\n")
    third = snapshot(tmp_path / "code")
    assert "steps: 1" in json.loads((third / "code.json").read_text())["diff"]
    plugin.unlink()
    git(checkout, "commit", "-q", "-a", "-m", "more")
    assert snapshot(tmp_path / "code").name[:10] != first.name[:10]
    assert len({path.name for path in (tmp_path / "code").iterdir()}) == 4


def test_only_code_is_copied(checkout, tmp_path):
    for name in (
        "research/run.log",
        "plugins/look.ipynb",
        "plugins/__pycache__/x.pyc",
        "data/a.wav",
        "notes.md",
    ):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text("x")
    git(checkout, "rm", "-q", "--cached", "research/errors.py")
    (checkout / "research" / "files.py").unlink()
    found = files(snapshot(tmp_path / "code"))
    assert "research/errors.py" in found  # not tracked, but there
    assert "research/files.py" not in found  # tracked, but gone
    assert {name.split("/")[0] for name in found} == {"research", "plugins", "sweeps", "code.json"}
    assert not [name for name in found if name.endswith((".log", ".ipynb", ".pyc"))]


def test_an_installed_hark_is_copied_without_git(checkout, tmp_path):
    shutil.rmtree(checkout / ".git")
    shutil.rmtree(checkout / "sweeps")
    git(tmp_path, "init", "-q")  # somebody's project, that it is installed in
    (tmp_path / ".gitignore").write_text("checkout/\n")
    path = snapshot(tmp_path / "code")
    assert path.name.startswith("0.1.0-")
    assert (path / "research" / "cli.py").read_text() == (checkout / "research" / "cli.py").read_text()
    assert json.loads((path / "code.json").read_text()) == {"commit": "", "diff": ""}


def test_a_crash_while_copying_leaves_no_snapshot(checkout, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", None)
        with pytest.raises(TypeError):
            snapshot(tmp_path / "code")
    assert all(path.name.startswith(".") for path in (tmp_path / "code").iterdir())
    whole = snapshot(tmp_path / "code")
    assert "research/cli.py" in files(whole)


def test_one_that_is_made_by_another_process_meanwhile_is_taken(checkout, tmp_path, monkeypatch):
    def beaten(part, path):
        shutil.copytree(part, path)
        os.rename(part, path)  # noqa: PTH104  Path.rename is this very function

    monkeypatch.setattr("pathlib.Path.rename", beaten)
    path = snapshot(tmp_path / "code")
    assert list((tmp_path / "code").iterdir()) == [path]


def test_packages_are_copied_whole_and_what_is_no_code_alone_is_refused(checkout, tmp_path, monkeypatch):
    package = tmp_path / "my_package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/sizes.json"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "outside", lambda: ["my_package.inner", "json", "torch.nn", "not_there"])
    found = files(snapshot(tmp_path / "code"))
    assert {"my_package/__init__.py", "my_package/inner/__init__.py", "my_package/inner/sizes.json"} <= found
    assert not [name for name in found if name.startswith(("json", "torch", "not_there"))]
    with (package / "audio.tar").open("w") as file:
        file.truncate(200_000_000)
    with pytest.raises(HarkError, match=r"my_package: holds 200 MB, so not code alone"):
        snapshot(tmp_path / "code")


def test_the_environment_puts_the_snapshot_before_what_was_set(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "mine::/opt/theirs")
    monkeypatch.delenv("HARK_PLUGINS", raising=False)
    assert environment(tmp_path / "code") == {
        "PYTHONPATH": f"{tmp_path}/code:{tmp_path}/mine:/opt/theirs",
        "PYTHONSAFEPATH": "1",
    }
    monkeypatch.setenv("HARK_PLUGINS", "mine")
    assert environment(tmp_path)["HARK_PLUGINS"] == "mine"


def test_plugins_of_an_installed_package_are_found_by_their_entry_point(tmp_path, monkeypatch):
    (tmp_path / "their_masks.py").write_text("")
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[hark.plugins]\nmasks = their_masks\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "their_masks" in registry.outside()
    assert ("their_masks", tmp_path / "their_masks.py") in own_plugins()  # no site-packages: jobs get a copy
