"""Every registered plugin keeps every rule of its kind; a new one is picked up without editing this file."""

from argparse import Namespace

import pytest
import torch

from research import registry
from research.conformance import command
from research.conformance.case import Case
from research.conformance.suite import MODEL, rules_for
from research.errors import HarkError

registry.load_plugins()


def registered():
    """Every plugin with its rules. Other settings of a class are not put into a model again."""
    for kind in registry.KINDS:
        seen = set()
        for name in registry.names(kind):
            known = registry.find(kind, name) in seen
            seen.add(registry.find(kind, name))
            for rule in rules_for(kind, name):
                if not (known and kind != "objective" and rule in MODEL):
                    yield pytest.param(kind, name, rule, id=f"{kind}={name}-{rule.__name__}")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_plugin_imports():
    assert not {name: error for name, error in registry.broken.items() if name.startswith("plugins.")}


@pytest.mark.parametrize(("kind", "name", "rule"), list(registered()))
def test_rule(kind, name, rule):
    rule(Case(kind, name))


def test_hark_check_prints_every_rule_and_answers_0(capsys):
    assert command.run(Namespace(name="masking=block", rule=None)) == 0
    said = capsys.readouterr().out
    assert "masking=block: plugins.masking.block.Block" in said
    assert "ok     No mask covers a frame past the end of its row." in said
    assert "8 of 8 rules kept" in said


def test_a_name_can_mean_plugins_of_several_kinds():
    assert command.find("none") == [("quantizer", "none"), ("masking", "none"), ("augmentation", "none")]
    assert command.find("quantizer=none") == [("quantizer", "none")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nst", "did you mean 'nest'"),
        ("objective=nst", "did you mean 'nest'"),
        ("objectiv=nest", "did you mean 'objective'"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(text, says):
    with pytest.raises(HarkError, match=says):
        command.find(text)
