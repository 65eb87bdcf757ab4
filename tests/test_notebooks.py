"""Notebooks run as they are, on a small real run; each is light, stripped and readable, and so are its figures."""

import argparse
import ast
import json
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from research import registry
from research.evaluation import command
from tests.runs import ROOT, train

BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ANALYSIS = ("research.analysis", "research.interop.load")
LONGEST = 8  # lines of a cell, but for a file that one writes
FAULTS = """
from matplotlib.figure import Figure
from tests.pictures import faults
told = {name: faults(each, BARE) for name, each in enumerate(Out.values()) if isinstance(each, Figure)}
print(len(told), "figures", {name: each for name, each in told.items() if each})
"""
SAYS = {
    "01_first_run": "unigram_acc",
    "02_ablation": "done     40",
    "03_representations": "cosine",
    "04_your_plugin": "not enough seeds (3 needed)",
}
FIGURES = {"01_first_run": 6, "02_ablation": 5, "03_representations": 5, "04_your_plugin": 2}


def read(path):
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def codes(book):
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


def manifest(corpus, name, count, low, high):
    lines = [json.loads(line) for line in (corpus / f"{name}.jsonl").read_text().splitlines()]
    kept = [line for line in lines if low < line["duration"] < high][:count]
    for line in kept:
        line["audio_filepath"] = str(corpus / line["audio_filepath"])
    return "".join(json.dumps(line) + "\n" for line in kept)


def probe(run):
    """Ask as `hark probe` does, but for a classifier that is trained for a moment only."""
    registry.load_plugins()
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    sizes = ["--seeds", "2", "--sentences", "6", "--dev", "2"]
    words = ["--probe", "phone_frames", "pnmi", "--baseline", "log_mel", "--no-cache", *sizes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.config_of("probe", "phone_frames").training, "steps", 10)
        command.run(parser.parse_args([str(run), *words]))


@pytest.fixture(scope="module")
def home(corpus, tmp_path_factory, module_cache):
    """A folder as a checkout is after `make demo`: notebooks/, data/ and a run that was probed, all of it small."""
    home = tmp_path_factory.mktemp("home")
    data = home / "data" / "debspeech-mini"
    data.mkdir(parents=True)
    for name, count in {"train": 60, "valid": 12, "phones_train": 9, "phones_test": 6}.items():
        (data / f"{name}.jsonl").write_text(manifest(corpus, name, count, 0.5, 8.0))
    speech = {split: data / f"{split}.jsonl" for split in ("train", "valid")}
    run = train(speech, home / "runs", "train.steps=16", "encoder.stride=4", "data.batch_seconds=8")
    probe(run)
    (home / "tmp").mkdir()
    (home / "notebooks").mkdir()
    (home / "notebooks" / "data").symlink_to(ROOT / "notebooks" / "data")
    return home


def executed(book, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("TMPDIR", str(folder.parent / "tmp"))  # where the runs of one's own plugin go
    client = NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def results(book):
    """What cells gave that is shown: figures, tables, sounds."""
    return [out["data"] for cell in book.cells for out in cell.get("outputs", ()) if "data" in out]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_runs_and_its_figures_can_be_read(path, home, monkeypatch):
    book = read(path)
    bare = ("prob", "codes", "augmentation", "masking")  # factors of the ablation, named at an axis
    book.cells.append(nbformat.v4.new_code_cell(FAULTS.replace("BARE", repr(bare))))
    done = executed(book, home / "notebooks", monkeypatch)
    (said,) = [out.text for out in done.cells[-1].outputs if out.get("name") == "stdout"]
    assert said == f"{FIGURES[path.stem]} figures {{}}\n"
    assert sum("image/png" in each for each in results(done)) == FIGURES[path.stem]
    assert SAYS[path.stem] in "".join(each.get("text/plain", "") for each in results(done))


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_is_stripped(path):
    book = read(path)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    assert book.metadata.kernelspec.name == "python3"
    assert set(book.metadata) <= {"kernelspec", "language_info"}
    for cell in book.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == [], "type: jupyter nbconvert --clear-output --inplace notebooks/*.ipynb"
            assert cell.execution_count is None


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_is_light(path):
    book = read(path)
    assert book.cells[0].cell_type == "markdown"
    assert not re.search(
        r"""["'\s(=]/(home|work|root|tmp|Users|mnt|data)\b""", "\n".join(c.source for c in book.cells)
    )
    plain = [source for source in codes(book) if not source.startswith("%%")]
    assert max(len(source.splitlines()) for source in plain[1:]) <= LONGEST
    words = ["markdown" if cell.cell_type == "markdown" else "code" for cell in book.cells]
    assert words.count("markdown") * 2 >= words.count("code")
    for source in plain:
        tree = ast.parse(re.sub(r"^%.*$", "", source, flags=re.MULTILINE))
        for node in ast.walk(tree):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert name.startswith(ANALYSIS) or name.split(".")[0] in sys.stdlib_module_names, name


def test_make_notebooks_opens_them_all():
    said = (ROOT / "Makefile").read_text()
    assert "--ip 127.0.0.1" in said
    assert [path.stem for path in BOOKS] == list(FIGURES)
