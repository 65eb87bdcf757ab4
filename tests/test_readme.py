"""The README says what is there, and its objective is a real one."""

import os
import re
import subprocess
import sys
from pathlib import Path

from research import registry
from research.conformance.matrix import legal
from research.conformance.matrix_command import count

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_plugin_is_in_the_table():
    registry.load_plugins()
    for kind in (*registry.KINDS, "schedule"):
        (row,) = re.findall(rf"^\| {kind} \| (.*) \|$", README, re.MULTILINE)
        words = re.findall(r"[a-z0-9_]+", row)
        for name in registry.names(kind):
            if kind in registry.KINDS and not registry.find(kind, name).__module__.startswith("plugins."):
                continue  # another test's
            base = [n for n in words if name == n or (n.startswith("_") and name.endswith(n))]
            assert base, f"{kind}={name} is not in the README"


def test_the_readmes_objective_keeps_every_rule(tmp_path):
    """Copied out of the README into a module elsewhere, it needs no other edit."""
    (code,) = re.findall(r"```python\n(from dataclasses.*?)```", README, re.DOTALL)
    (tmp_path / "my_objective.py").write_text(code)
    env = os.environ | {"HARK_PLUGINS": "my_objective", "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", "check", "objective=mine"],
        capture_output=True, text=True, env=env, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_combinations_are_counted():
    (line,) = re.findall(r"^\d+ encoders x .* legal", README, re.MULTILINE)
    assert line == count(len(legal()))
