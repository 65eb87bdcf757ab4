"""The jobs of a sweep are checked together, and each is told what it would be told alone."""

import shutil
from types import SimpleNamespace

import pytest
from rich.console import Console

from research import runs
from research.compose import compose_config
from research.errors import HarkError
from research.launch.checks import cost
from research.launch.checks.config import init
from research.launch.checks.cost import Step
from research.launch.checks.job import Job, objective_of
from research.launch.checks.manifest import manifest_of, sample_of
from research.launch.checks.memo import Memo
from research.launch.checks.resources import checkpoint_bytes
from research.launch.preflight import preflight
from research.launch.sweep.cell import Cell
from research.launch.sweep.checks import against, disk, preflight_cells, show, time
from tests.origins import make_run
from tests.planted import SMALL, base, gone, good_bins, other_weights, shar, spoilt, typed

MIXED = {
    "plain": typed(),
    "seed": typed("run.seed=1"),
    "rate and steps": typed("optimizer.lr=1e-4", "train.steps=3"),
    "steps that take long": typed("cluster.device=a100", "cluster.hours=0.00001", "train.steps=100000"),
    "codes": typed("quantizer.codes=32"),
    "objective": typed("objective=best_rq", "quantizer=best_rq"),
    "masks that are too long": typed("masking.length=400"),
    "masks that are too long for some": typed("masking.length=100", "run.seed=1"),
    "batches": typed("data.batch_seconds=5"),
    "bins": good_bins,
    "too little memory": typed("cluster.memory_gb=0.1"),
    "several ranks": typed("cluster.per_node=2", "train.batches=2"),
    "uneven ranks": typed("cluster.per_node=2", "train.batches=3"),
    "no such GPU": typed("cluster.device=h1000"),
    "another GPU": typed("cluster.device=h1000", "run.seed=1"),
    "missing files": spoilt(gone),
    "strict": typed("data.strict=true", "data.min_seconds=2.5"),
    "other weights": other_weights,
    "no weights": typed("init=nowhere.nemo"),
    "streams": typed("data=lhotse", "data.max_rows=3"),
    "streams with another seed": typed("data=lhotse", "data.max_rows=3", "run.seed=1"),
    "streams with more readers": typed("data=lhotse", "data.max_rows=3", "data.workers=1", "data.min_seconds=1"),
    "Shar": shar,
    "online": typed("log.wandb=online"),
    "wrong settings": typed("train.log_every=0"),
}  # fmt: skip
FINE = ("plain", "seed", "streams", "streams with more readers", "Shar", "several ranks", "bins", "goes on")
OWN = ("disk", "time")  # which a sweep is told otherwise


def cell(speech, folder, *overrides):
    composed = compose_config([*SMALL, *base(speech, folder), *overrides])
    differs = dict(each.split("=", 1) for each in overrides)
    return Cell(tuple(overrides), differs, composed, runs.find(composed.config))


@pytest.fixture(scope="module")
def grid(speech, tmp_path_factory):
    """Cells by what is the matter with them; the last goes on from a checkpoint."""
    folder = tmp_path_factory.mktemp("grid")
    found = {}
    for number, (name, plant) in enumerate(MIXED.items()):
        own = folder / str(number)
        own.mkdir()
        found[name] = cell(speech, folder, f"optimizer.weight_decay={number}", *plant(speech, own))
    weights = make_run(folder / "weights", "encoder=fastconformer_tiny")
    found["goes on"] = cell(speech, folder, f"init={weights}", "encoder.dim=96")
    (found["goes on"].path / "checkpoints" / "step_4").mkdir(parents=True)
    return found


@pytest.fixture(scope="module")
def alone(grid):
    return {each.path: kept(preflight(each.composed, sample=40)) for each in grid.values()}


def kept(findings):
    return [each for each in findings if each.name not in OWN]


@pytest.mark.parametrize("order", [1, -1])
def test_every_cell_is_told_what_it_is_told_alone(order, grid, alone):
    found = preflight_cells(list(grid.values())[::order], sample=40)
    for name, each in grid.items():
        assert kept(found[each.path]) == alone[each.path], name
    refused = {name for name, each in grid.items() if against(found[each.path])}
    assert {"masks that are too long", "no such GPU", "another GPU", "other weights"} <= refused
    assert not refused & set(FINE)


def jobs(speech, folder, *differing, memo=None):
    memo = memo or Memo()
    return [Job(cell(speech, folder, *overrides).composed, 20, memo) for overrides in differing]


def test_what_cannot_differ_is_made_once(speech, tmp_path):
    first, rate, seed, codes, data = jobs(
        speech,
        tmp_path,
        (),
        ("optimizer.lr=1e-4", "train.steps=7", "schedule=constant", "init=[]"),
        ("run.seed=1",),
        ("quantizer.codes=32",),
        ("data.max_seconds=2",),
    )
    step = Step(2, 1.5)
    for same in (rate, seed):
        assert same.get(objective_of) is first.get(objective_of)
        assert same.get(step) is first.get(step)
        assert same.get(manifest_of) is first.get(manifest_of)
    assert codes.get(objective_of) is not first.get(objective_of)
    assert codes.get(step) is not first.get(step)
    assert codes.get(sample_of) is rate.get(sample_of) is first.get(sample_of)
    assert seed.get(sample_of) is not first.get(sample_of)
    assert data.get(manifest_of) is not first.get(manifest_of)
    assert data.get(objective_of) is first.get(objective_of)


def test_an_answer_that_would_depend_on_another_job_is_no_answer(speech, tmp_path):
    first, other = jobs(speech, tmp_path, (), ("run.seed=1",))

    def late(job):
        return lambda: job.cfg.run.seed

    assert first.get(late)() == 0  # nobody notes it
    with pytest.raises(RuntimeError, match=r"run: the config of another job"):
        other.get(lambda job: job.get(late)())


def test_an_error_is_told_once_by_each_job(speech, tmp_path):
    for job in jobs(speech, tmp_path, ("init=nowhere.nemo",), ("init=nowhere.nemo", "run.seed=1")):
        for _ in range(2):
            with pytest.raises(HarkError, match="nowhere"):
                job.get(init)


def test_checkpoints_have_to_fit_together(speech, tmp_path, monkeypatch):
    free = 10**11
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (job,) = jobs(speech, tmp_path, ())
    keep = int(0.6 * free / job.get(checkpoint_bytes))
    overrides = [(f"checkpoint.keep_last={keep}", f"run.seed={seed}") for seed in range(3)]
    one, two, three = jobs(speech, tmp_path, *overrides)
    assert said_of_disk(one) == ["ok"]
    assert said_of_disk(one, two) == ["refuse", "refuse"]
    three.folder.mkdir(parents=True)
    (three.folder / "done.json").write_text("{}")
    assert said_of_disk(one, three) == ["ok", "ok"]  # no more are written there


def said_of_disk(*jobs):
    found = dict(disk({job.folder: job for job in jobs}))
    assert all(f"of {len(jobs)} runs need" in each.text for each in found.values())
    return [found[job.folder].verdict.value for job in jobs]


def test_a_run_folder_of_another_name_counts(speech, tmp_path):
    one = cell(speech, tmp_path)
    old = one.path.with_name(one.path.name.replace("run-", "old-"))
    (old / "checkpoints" / "step_4").mkdir(parents=True)
    found = preflight_cells([cell(speech, tmp_path)], sample=5)
    said = {each.name: each.text for each in found[old]}
    assert said["run"] == f"{old}: goes on after step 4"


def test_a_job_that_goes_on_by_itself_is_no_reason_to_warn(speech, tmp_path):
    limit = ("cluster.device=a100", "cluster.hours=0.001")
    often, seldom = jobs(
        speech,
        tmp_path,
        (*limit, "checkpoint.every=1", "train.steps=5000"),
        (*limit, "checkpoint.every=10000000", "train.steps=50000000"),
    )
    alone, together = often.get(cost.time), often.get(time)
    assert alone.verdict.value == "warn"
    assert "it has to be queued" in alone.text
    assert together.verdict.value == "ok"
    assert "goes on by itself" in together.text
    assert seldom.get(time).verdict.value == "refuse"


def test_plugins_of_the_working_folder_are_copied_for_a_sweep(speech, tmp_path, monkeypatch):
    (tmp_path / "mine_alone.py").write_text("import beside_mine\n")
    (tmp_path / "beside_mine.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARK_PLUGINS", "mine_alone")
    one = cell(speech, tmp_path)
    assert against(preflight(one.composed, sample=5)) == ["imports"]
    assert against(preflight_cells([one], sample=5)[one.path]) == []
    (tmp_path / "mine_alone.py").write_text("import a_missing_library\n")
    (finding,) = (each for each in preflight_cells([one], sample=5)[one.path] if each.name == "imports")
    assert finding.verdict.value == "refuse"
    assert "HARK_PLUGINS names mine_alone" in finding.text


def test_cells_that_are_refused_are_named(speech, tmp_path):
    cells = [
        cell(speech, tmp_path, f"masking.length={length}", f"run.seed={seed}")
        for length in (12, 400)
        for seed in (0, 1)
    ]
    cells.append(Cell((), {"masking.length": "none"}, refused="not a number"))
    cells.append(cell(speech, tmp_path, "log.wandb=nowhere", "run.seed=2"))
    found = preflight_cells(cells, sample=5)
    console = Console(width=200, record=True)
    show(cells, found, console)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    assert "train ok 5 cells 60 utterances, 0.03 hours" in lines
    start = next(i for i, line in enumerate(lines) if line.startswith("mask refuse 2 cells 100.0%"))
    assert lines[start + 1 : start + 3] == [
        "masking.length=400 run.seed=0",
        "masking.length=400 run.seed=1",
    ]
    assert any(line.startswith("settings refuse 1 cell log.wandb=nowhere") for line in lines)
    assert any(
        line.startswith("config ok 5 cells") and line.endswith("and 4 lines like this") for line in lines
    )


def test_sources_that_are_mappings_are_compared_by_value(speech, tmp_path):
    first, same, other = jobs(
        speech,
        tmp_path,
        *(("data=lhotse", f"data.train=[{{path: {speech['train']}, weight: {weight}}}]", f"optimizer.lr={lr}")
          for weight, lr in ((1, 1e-3), (1, 1e-4), (2, 1e-3))),
    )  # fmt: skip

    def read(job):
        return list(job.cfg.data.train)

    assert first.get(read) is same.get(read)
    assert other.get(read) is not first.get(read)
