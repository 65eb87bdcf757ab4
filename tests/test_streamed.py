"""Streams of real speech, on one rank and on two, and a run on them that is killed."""

import json
import random
from collections import defaultdict

import pytest
import torch

from research.errors import HarkError
from tests import runs
from tests.engines import run_ranks
from tests.sharded import as_shar, as_tars, lines_of, read, read_and_keep, share, source_of
from tests.streams import flat

pytestmark = pytest.mark.usefixtures("module_cache")

GROUP = ("train.batches=2",)  # as two ranks: the order of a plan depends on it
COUNT = 24  # batches that each of two ranks reads before it stops, and after


@pytest.fixture(scope="module")
def trains(speech, tmp_path_factory):
    """The same sixty utterances for a plan, as a Shar, and as tars."""
    folder = tmp_path_factory.mktemp("sharded")
    shar, tars = as_shar(speech["train"], folder / "shar"), as_tars(speech["train"], folder / "tars")
    return {"plan": str(speech["train"]), "shar": str(shar), "tars": str(tars)}


@pytest.fixture(scope="module", params=[0, 2])
def told(trains, request, tmp_path_factory):
    """What two ranks heard, rank by rank."""
    folder = tmp_path_factory.mktemp("told")
    run_ranks(2, share, folder, trains, request.param, COUNT)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def alone(kind, train, count, step=0, state=()):
    return read(source_of(kind, train, None, *GROUP), count, step, state)


def epochs(kind, train, batches):
    """Ids of every epoch that is whole, of batches from the first on."""
    source = source_of(kind, train, None, *GROUP)
    if kind == "plan":
        each = source.plan.per_epoch
        return [flat(batches[k : k + each]) for k in range(0, len(batches) - each + 1, each)]
    heard, latest = defaultdict(list), {}
    for portion, ids in zip(source.batches.read(), batches, strict=False):
        heard[portion.epoch] += ids
        latest[portion.lane] = portion.epoch
    return [heard[number] for number in range(min(latest.values()))]


def merged(told, kind, part):
    """What the ranks heard, in the order of the batches."""
    return flat(zip(*(rank[kind][part] for rank in told), strict=True))


@pytest.mark.parametrize("kind", ["plan", "shar", "tars"])
def test_two_ranks_hear_everything_once_in_every_epoch_and_what_one_rank_hears(trains, told, kind):
    together = merged(told, kind, "first") + merged(told, kind, "then")
    assert together == alone(kind, trains[kind], 4 * COUNT)
    whole = epochs(kind, trains[kind], together)
    assert len(whole) >= 2
    for heard in whole:
        assert len(heard) == len(set(heard)) == 60
        assert set(heard) == set(whole[0])


@pytest.mark.parametrize("kind", ["shar", "tars"])
def test_ranks_keep_what_one_rank_keeps_and_any_number_of_them_goes_on_from_it(trains, told, kind):
    kept = [state for _, state in read_and_keep(source_of(kind, trains[kind]), 2 * COUNT)]
    for rank in told:
        assert rank[kind]["states"] == kept[1::2]
    assert alone(kind, trains[kind], 2 * COUNT, COUNT, kept[-1]) == merged(told, kind, "then")


@pytest.mark.parametrize("cut", [1, 2, 5, 13, 26, 27, 40, 55])
def test_stopping_anywhere_twice_changes_nothing(trains, cut):
    whole = alone("tars", trains["tars"], 80)
    found, state = [], [[0], [0, 0], [0, 0], [0, 0]]
    assert source_of("tars", trains["tars"]).state() == state
    for count in (cut, 2, 78 - cut):
        source = source_of("tars", trains["tars"])
        found += read(source, count, len(found), state)
        state = source.state()
        assert state[0] == [len(found)]
    assert found == whole
    assert max(epoch for epoch, _ in state[1:]) >= 2


def test_seeds_differ(trains):
    assert read(source_of("shar", trains["shar"], None, "run.seed=1"), 10) != alone(
        "shar", trains["shar"], 10
    )


def with_valid(speech, ranks, *overrides):
    return source_of("lhotse", speech["train"], ranks, f"data.valid=[{speech['valid']}]", *overrides)


def test_validation_hears_everything_once_from_short_to_long_every_time(speech):
    source = with_valid(speech, None, "data.speed.prob=1", "data.truncate_seconds=1.2")
    first, again = list(source.valid()), list(source.valid())
    assert [number for number, _ in first] == list(range(len(first)))
    ids = flat(batch.ids for _, batch in first)
    assert sorted(ids) == sorted(line["id"] for line in lines_of(speech["valid"]))
    lengths = flat(batch.audio.lengths.tolist() for _, batch in first)
    assert lengths == sorted(lengths)
    assert max(lengths) == 19_200
    for (_, one), (_, other) in zip(first, again, strict=True):
        assert one.ids == other.ids
        assert torch.equal(one.audio.x, other.audio.x)


def share_valid(ranks, folder, speech):
    found = [(number, batch.ids) for number, batch in with_valid(speech, ranks).valid()]
    (folder / f"{ranks.rank}.json").write_text(json.dumps(found))


def test_ranks_share_validation(speech, tmp_path):
    run_ranks(2, share_valid, tmp_path, speech)
    found = flat(json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [[number, batch.ids] for number, batch in with_valid(speech, None).valid()] == sorted(found)


def test_the_summary_tells_every_source(speech, trains):
    mixture = f"{{path:{trains['shar']},weight:3}},{{path:{trains['tars']},weight:1}}"
    source = source_of("lhotse", mixture, None, "data.max_seconds=2.5")
    facts = source.facts()
    assert [part["share"] for part in facts["sources"]] == pytest.approx([0.75, 0.25])
    assert [part["utterances"] for part in facts["sources"]] == [60, 60]
    long = sum(line["duration"] > 2.5 for line in lines_of(speech["train"]))
    assert facts["left_out"] == {"over 2.5 s": 2 * long}
    assert 0 < facts["padding"] < 0.5
    assert json.loads(json.dumps(facts)) == facts
    assert source.summary().row_count == 3 + 5


def test_what_is_kept_is_typed_as_values_of_keys(speech):
    lines = lines_of(speech["train"])
    words = [line["word"] for line in lines[:3]]
    source = source_of("lhotse", speech["train"], None, f"data.keep={{word:[{','.join(words)}]}}")
    wanted = {line["id"] for line in lines if line["word"] in words}
    assert set(flat(read(source, 12))) == wanted
    assert source.facts()["kept"] == pytest.approx(len(wanted) / 60, abs=0.1)


def test_another_number_of_lanes_than_was_kept_is_refused(trains):
    source = source_of("shar", trains["shar"])
    with pytest.raises(HarkError, match="has 3 lanes, but the run began with 2; the data have changed"):
        next(source.train(0, [[4], [0, 0], [0, 0]]))


STEPS = "train.steps=16"


@pytest.fixture(scope="module")
def command(trains, speech):
    data = {"train": trains["shar"], "valid": speech["valid"]}
    return data, ("data=lhotse", "data.lanes=3", "data.buffer=20", "data.speed.prob=0.5", STEPS)


@pytest.fixture(scope="module")
def undisturbed(command, tmp_path_factory):
    data, overrides = command
    return runs.train(
        data, tmp_path_factory.mktemp("whole"), *overrides, "data.workers=0", "data.reader=torch"
    )


@pytest.mark.parametrize("reader", ["torch", "fairseq2"])
def test_kill_9_and_the_same_command_give_the_same_losses_and_weights(command, undisturbed, tmp_path, reader):
    data, overrides = command
    how = (*overrides, "data.workers=2", f"data.reader={reader}")
    step = random.Random().randint(5, 14)
    process = runs.start(data, tmp_path, *how, env=runs.held(tmp_path, step))
    runs.wait_for_step(tmp_path, step, process)
    process.kill()
    process.wait()
    run = runs.train(data, tmp_path, *how)
    assert runs.losses(run) == runs.losses(undisturbed)
    assert runs.losses(run, "valid") == runs.losses(undisturbed, "valid")
    assert runs.weights_hash(run) == runs.weights_hash(undisturbed)
