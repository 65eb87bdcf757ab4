"""`hark new`: what it writes keeps every rule as it is."""

import pytest

from research.cli import main
from research.conformance.case import Case
from research.conformance.rules import judge
from research.conformance.suite import rules_for
from research.listing.new import KINDS
from tests.borrowed import borrowed


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Kind -> file of a plugin that was just written; all are registered."""
    folder = tmp_path_factory.mktemp("written")
    for kind in KINDS:
        assert main(["new", kind, f"fresh_{kind}", "--out", str(folder)]) == 0
    files = {kind: folder / f"fresh_{kind}.py" for kind in KINDS}
    with borrowed(list(files.values())):
        yield files


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plugin_keeps_every_rule_and_is_short(written, kind):
    assert len(written[kind].read_text().splitlines()) < 50
    case = Case(kind, f"fresh_{kind}")
    assert case.cls.__qualname__ == f"Fresh{kind.capitalize()}"
    broken = {rule.__name__: judge(rule, case).problem for rule in rules_for(kind, case.name)}
    assert not any(broken.values()), broken


def test_it_is_told_what_to_type_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "objective", "word_order"]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert said[2:] == [
        f"export HARK_PLUGINS={tmp_path}/word_order.py",
        "hark check objective=word_order",
        "hark train objective=word_order encoder=fastconformer_tiny data.train=[data/debspeech-mini/train.jsonl]",
    ]
    assert "class WordOrder(Objective)" in (tmp_path / "word_order.py").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["objectiv", "mine"], "did you mean 'objective'?"),
        (["objective", "Mine"], "small letters"),
        (["objective", "class"], "small letters"),
        (["objective", "nest"], "objective=nest is there already, in plugins.objectives.nest"),
        (["masking", "secrets"], "as 'my_secrets'"),
        (["masking", "there"], "there.py: is there already"),
    ],
)
def test_what_cannot_be_a_plugin_is_refused(words, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.py").write_text("mine")
    assert main(["new", *words]) == 2
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "mine"
