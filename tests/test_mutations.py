"""Each rule catches plugins that break it, and says so in its own words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from research import registry
from research.conformance.case import Case
from research.conformance.rules import Broken
from research.conformance.suite import DOWNSTREAM, EVERY, MODEL, RULES, rules_for
from tests.borrowed import borrowed

KINDS = ("objectives", "losses", "unmasked", "parts", "others", "downstream")
MODULES = [f"tests.broken.{name}" for name in KINDS]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def broken():
    """The broken plugins, registered as a user's own are: kind -> their names."""
    with borrowed(MODULES) as names:
        assert not registry.broken
        yield names


def demands():
    """Every rule at the kind whose broken plugins show it, where it holds for several: objectives, or heads."""
    shown = dict.fromkeys((*EVERY, *MODEL), "objective") | dict.fromkeys(DOWNSTREAM, "head")
    for kind, rules in RULES.items():
        for rule in rules:
            if shown.get(rule, kind) == kind:
                yield pytest.param(kind, rule, id=f"{kind}-{rule.__name__}")


@pytest.mark.parametrize(("kind", "rule"), list(demands()))
def test_rule_catches_what_breaks_it(broken, kind, rule):
    names = [name for name in broken[kind] if name.split("__")[0] == rule.__name__]
    assert names, f"no broken {kind} shows that {rule.__name__} catches anything"
    for name in names:
        try:
            rule(Case(kind, name))
        except Broken:
            continue
        pytest.fail(f"{rule.__name__} lets {name} pass")


def test_every_broken_plugin_is_named_after_a_rule_it_has_to_keep(broken):
    for kind, names in broken.items():
        for name in names:
            assert name.split("__")[0] in {rule.__name__ for rule in rules_for(kind, name)}


def test_a_broken_encoder_is_caught_inside_a_model(broken):
    (rule,) = (rule for rule in MODEL if rule.__name__ == "forward_moves_no_state")
    with pytest.raises(Broken, match=r"num_batches_tracked|running_mean"):
        rule(Case("encoder", "forward_moves_no_state"))


def test_hark_check_tells_what_is_broken_in_a_plugin_of_ones_own():
    environment = os.environ | {"HARK_PLUGINS": "tests.broken.others", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "research.cli", "check", "padding_is_never_masked"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "broken No mask covers a frame past the end of its row." in done.stdout
    assert "padding would become a target" in done.stdout
    assert "7 of 8 rules kept" in done.stdout
