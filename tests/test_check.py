"""`hark check`: files, single rules, and what is said of a plugin that breaks one or does not import."""

import inspect

import pytest

from research import registry
from research.cli import main
from research.conformance.suite import RULES
from tests.borrowed import borrowed

LEAKY = '''
from dataclasses import dataclass
from plugins.masking.block import Block
from research.registry import register

@register("masks_all")
class MasksAll(Block):
    """As long as the batch."""

    @dataclass(kw_only=True)
    class Config(Block.Config):
        pass

    def forward(self, lengths, size):
        return super().forward(lengths * 0 + size, size)
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes modules of one's own into the working folder; what they register is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    with borrowed([]):
        yield lambda name, code: (tmp_path / name).write_text(code)


def test_a_file_is_checked_and_a_broken_rule_explained(own, capsys):
    own("all_masks.py", LEAKY)
    assert main(["check", "all_masks.py", "--rule", "padding_is_never_masked"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "masking=masks_all: all_masks.MasksAll"
    assert said[1].strip().split(maxsplit=1) == ["broken", "No mask covers a frame past the end of its row."]
    assert said[2].strip() == "why:   What is masked becomes a target, and silence after the end is none."
    assert said[3].strip().startswith("here:  a frame past the end of its row is masked")
    assert "compare with `lengths`" in said[3]
    assert said[4].strip() == "again: hark check masking=masks_all --rule padding_is_never_masked"
    assert "0 of 1 rules kept" in said[5]


def test_a_file_of_hark_itself_is_checked_without_registering_it_twice(capsys):
    file = registry.home() / "masking" / "none.py"
    assert main(["check", str(file)]) == 0
    assert "masking=none: plugins.masking.none.NoMasking" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("lame_one.py", "import os\nimport no_such_module\n", "lame_one.py:2) does not import"),
        ("lame_two.py", "import os\nclass X(:\n", "lame_two.py:2) does not import"),
        ("lame_three.py", LEAKY.replace("masks_all", "block"), "masking=block is registered twice"),
        ("lame_four.py", LEAKY.replace("class Config(Block.Config)", "class C"), "needs a Config of its own"),
        ("lame_five.py", "x = 1\n", "registers no plugin"),
    ],
)
def test_a_file_without_a_plugin_is_told_with_its_line(own, capsys, name, code, says):
    own(name, code)
    assert main(["check", name]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert name in said
    assert said.count("\n") == 1


def test_an_unknown_rule_is_told_with_the_nearest(capsys):
    assert main(["check", "masking=block", "--rule", "padding_is_nver_masked"]) == 2
    assert "did you mean 'padding_is_never_masked'?" in capsys.readouterr().err


def test_every_rule_says_what_it_demands_and_why():
    for rules in RULES.values():
        for rule in rules:
            demand, _, why = inspect.getdoc(rule).partition("\n")
            assert demand.endswith(".")
            assert why.strip(), f"{rule.__name__} does not say why it matters"
