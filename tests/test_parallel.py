"""One process with eight batches a step, two ranks with four, four with two, sharing the model or not: one and the same run."""

import pytest
import torch

from research import registry
from research.conformance.case import Case, speech
from research.conformance.tools import snapshot, student, train
from research.engine.gangs import start
from tests import teacher  # noqa: F401  registers its objective
from tests.engines import run_ranks

STEPS, BATCHES = 2, 8
# no division by tiny gradients: rounding stays rounding; weights move far
COMMON = (f"train.batches={BATCHES}", "optimizer.eps=1.0", "optimizer.lr=0.5", "train.clip=2.0")
BATCH, LAYER = "encoder.conv_norm=batch", "encoder.conv_norm=layer"
CASES = {
    "nest": ("nest", BATCH),
    "best_rq": ("best_rq", LAYER),
    "wav2vec2": ("wav2vec2", BATCH),
    "w2v_bert": ("w2v_bert", LAYER),
    "teacher": ("follow_teacher", BATCH),
    "recomputed": ("nest", LAYER, "encoder.checkpoint_layers=true"),
    "bf16": ("nest", LAYER, "train.precision=bf16"),
}
ROUNDING = {"bf16": 100.0}  # of what is allowed to others
FOUR = ("nest", "teacher")  # the cases that four ranks try too
WAYS = [(2, "ddp"), (4, "ddp"), (2, "fsdp"), (4, "fsdp")]


def batches_of(model, rank, size):
    """Rank `rank`'s batches of all steps: they differ in rows and in length."""
    seconds = [(0.5, 0.3), (0.4,), (0.3, 0.5), (0.3, 0.3)]
    return [
        speech(model, seconds[number % len(seconds)], seed=100 * step + number)
        for step in range(STEPS)
        for number in range(rank, BATCHES, size)
    ]


def trained(ranks, parallel, objective, *overrides):
    """What is logged of every step, and where the weights begin and end."""
    case, overrides = Case("objective", objective), (*COMMON, f"train.parallel={parallel}", *overrides)
    model, logged = case.model(*overrides), []
    batches = batches_of(model, ranks.rank, ranks.size)
    share = len(batches) // STEPS
    begin = snapshot(model)
    it = student(model, case.config(*overrides), ranks)
    for step in range(STEPS):
        bag = train(it, batches[step * share : (step + 1) * share], first=step)
        values = bag.pop(ranks.all_sum)
        logged.append((values["loss"], values["grad_norm"]))
    return {"logged": logged, "begin": begin, "end": snapshot(model)}


def all_cases(ranks, folder):
    registry.load_plugins()
    for parallel in ("ddp", "fsdp"):
        names = CASES if ranks.size == 2 else FOUR
        found = {name: trained(ranks, parallel, *CASES[name]) for name in names}
        if ranks.rank == 0:
            torch.save(found, folder / f"{ranks.size}-{parallel}.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    registry.load_plugins()
    folder = tmp_path_factory.mktemp("ways")
    for size in (2, 4):
        run_ranks(size, all_cases, folder)
    return {way: torch.load(folder / "{}-{}.pt".format(*way)) for way in WAYS}


@pytest.mark.parametrize("name", CASES)
def test_any_number_of_ranks_gives_the_same_run(runs, name):
    rounding = ROUNDING.get(name, 1.0)
    one = trained(start("cpu"), "ddp", *CASES[name])
    moved = {key: (value - one["begin"][key]).abs().max() for key, value in one["end"].items()}
    assert sum(float(far) > 1e-3 for far in moved.values()) > len(moved) / 3
    for way, other in ((way, runs[way][name]) for way in WAYS if name in runs[way]):
        assert torch.tensor(other["logged"]) == pytest.approx(
            torch.tensor(one["logged"]), rel=rounding * 1e-4
        ), way
        assert other["end"].keys() == one["end"].keys()
        for key, value in one["end"].items():
            assert torch.equal(other["begin"][key], one["begin"][key]), (way, key)
            apart = (other["end"][key] - value).abs().max()
            assert apart <= rounding * 1e-3 * moved[key] + 1e-6, (way, key)
