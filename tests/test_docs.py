"""`hark docs`: a page for every plugin, and something about every field."""

import re

import pytest

from research import registry
from research.cli import main
from research.listing.docs import classes, fields_of


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    assert main(["docs", "--out", str(folder)]) == 0
    return folder


def own():
    """Hark's own classes; other tests may have registered theirs."""
    registry.load_plugins()
    return [cls for cls in classes() if cls.__module__.startswith("plugins.")]


def test_every_plugin_and_preset_has_a_page_that_the_index_leads_to(written):
    index = (written / "README.md").read_text()
    for cls in own():
        for name in registry.names_of(cls):
            (link,) = re.findall(rf"^\| \[`{name}`\]\(({cls.kind}/\w+\.md)#{name}\)", index, re.MULTILINE)
            page = (written / link).read_text()
            assert f"\n### {name}\n" in page
            assert f"`{cls.__module__}.{cls.__qualname__}`" in page


def test_every_field_is_described():
    missing = [f"{cls.__qualname__}.{each.key}" for cls in own() for each in fields_of(cls) if not each.text]
    assert not missing, "write a comment beside these fields of Config"


def test_a_page_tells_what_the_code_says(written):
    page = (written / "objective" / "wav2vec2.md").read_text()
    assert "[arXiv 2006.11477](https://arxiv.org/abs/2006.11477)" in page
    assert "| `target_norm` | layer, instance | `layer` | How latents are normalised" in page
    assert "| `target_grad` | float | `1.0` | factor on the gradient" in page
    assert "def hide(self, x: Seq, mask: Tensor) -> Seq  # What the encoder reads" in page
    assert "- What stands under the mask reaches nothing" in page
    assert "- `experiment=wav2vec2_base`: wav2vec 2.0 Base" in page
    assert "hark train objective=wav2vec2 encoder=fastconformer_tiny" in page
    tiny = (written / "encoder" / "fastconformer.md").read_text()
    assert "### fastconformer_tiny\n\nfastconformer with dim=64, depth=2, heads=4, channels=32" in tiny


def test_one_page_is_printed(capsys):
    assert main(["docs", "masking=block"]) == 0
    assert capsys.readouterr().out.startswith("# masking=block\n")
    assert main(["docs", "masking=blok"]) == 2
    assert "did you mean 'block'?" in capsys.readouterr().err
