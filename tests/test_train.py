"""Real runs on real speech: interrupted anywhere, they give what an undisturbed run gives."""

import json
import random
import shutil
import signal
import time

import pytest
import soundfile as sf

from research.runs import finished
from tests import runs

STEPS = "train.steps=16"


@pytest.fixture(scope="module")
def whole(speech, tmp_path_factory):
    """The run that nobody disturbed."""
    return runs.train(speech, tmp_path_factory.mktemp("whole"), STEPS)


@pytest.mark.parametrize(("workers", "reader"), [(0, "torch"), (2, "torch"), (2, "fairseq2")])
def test_kill_9_and_the_same_command_give_the_same_losses_and_weights(
    speech, whole, tmp_path, workers, reader
):
    command = (STEPS, f"data.workers={workers}", f"data.reader={reader}")
    step = random.Random().randint(5, 14)
    process = runs.start(speech, tmp_path, *command, env=runs.held(tmp_path, step))
    runs.wait_for_step(tmp_path, step, process)
    process.kill()
    process.wait()
    run = runs.train(speech, tmp_path, *command)
    assert runs.losses(run) == runs.losses(whole)
    assert runs.losses(run, "valid") == runs.losses(whole, "valid")
    assert runs.weights_hash(run) == runs.weights_hash(whole)
    assert (run / "data.json").read_text() == (whole / "data.json").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_stops_after_the_step_with_a_checkpoint(speech, whole, tmp_path, number):
    held = runs.held(tmp_path, 3)
    process = runs.start(speech, tmp_path, STEPS, "checkpoint.every=1000", env=held)
    runs.wait_for_step(tmp_path, 3, process)
    process.send_signal(number)
    runs.go(held)
    code, said = runs.finish(process)
    assert code == 128 + number
    assert "the same command goes on" in said
    assert not finished(runs.only_run(tmp_path))
    stopped = max(runs.losses(runs.only_run(tmp_path)))
    assert stopped < 16
    assert (runs.only_run(tmp_path) / "checkpoints" / f"step_{stopped}").is_dir()
    run = runs.train(speech, tmp_path, STEPS, "checkpoint.every=1000")
    assert runs.losses(run) == runs.losses(whole)
    assert runs.weights_hash(run) == runs.weights_hash(whole)


def test_a_finished_run_is_not_repeated(speech, whole):
    before = (whole / "metrics.jsonl").read_text()
    done = (whole / "done.json").read_text()
    assert json.loads(done)["steps"] == 16
    runs.train(speech, whole.parent, STEPS)
    assert (whole / "metrics.jsonl").read_text() == before
    assert (whole / "done.json").read_text() == done


def test_a_finished_run_whose_last_checkpoints_are_gone_is_finished_no_more_until_it_is(speech, tmp_path):
    run = runs.train(speech, tmp_path, "train.steps=5")
    done = json.loads((run / "done.json").read_text())
    shutil.rmtree(run / "checkpoints" / "step_5")
    process = runs.start(speech, tmp_path, "train.steps=5")
    while finished(run) and process.poll() is None:
        time.sleep(0.01)
    code, said = runs.finish(process)
    assert code == 0, said
    assert json.loads((run / "done.json").read_text())["time"] > done["time"]


def test_a_run_is_done_by_one_process_at_a_time(speech, tmp_path):
    first = runs.start(speech, tmp_path, "train.steps=500")
    runs.wait_for_step(tmp_path, 1, first)
    code, said = runs.finish(runs.start(speech, tmp_path, "train.steps=500"))
    first.kill()
    first.communicate()
    assert code == 2, said
    assert "another process is at this run" in said


def test_two_ranks_take_the_steps_of_two_micro_batches(speech, tmp_path):
    """The same batches, the same draws; batch norm would tell ranks from micro-batches by nothing but rounding."""
    one = runs.train(speech, tmp_path / "one", "train.steps=6", "train.batches=2")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc_per_node=2")
    two = runs.train(speech, tmp_path / "two", "train.steps=6", "train.batches=2", launcher=launcher)
    for split in ("train", "valid"):
        assert runs.losses(one, split) == pytest.approx(runs.losses(two, split), rel=1e-4)
    heard_by_one, heard_by_two = (json.loads((run / "data.json").read_text())["heard"] for run in (one, two))
    assert heard_by_one == heard_by_two
    assert [m["grad_norm"] for m in runs.metrics(one)] == pytest.approx(
        [m["grad_norm"] for m in runs.metrics(two)], rel=1e-3
    )


def test_every_run_logs_what_a_reader_needs(whole):
    wanted = {
        "schema", "step", "split", "time", "loss", "acc", "target_ppl", "pred_ppl", "usage", "mask_ratio", "grad_norm",
        "lr", "audio_s_per_s", "padding", "peak_mb", "skipped_steps", "bad_utterances", "converted_utterances",
        "silent_utterances",
    }  # fmt: skip
    for record in runs.metrics(whole):
        assert wanted <= record.keys()
    assert [record["step"] for record in runs.metrics(whole)] == list(range(1, 17))
    assert [record["step"] for record in runs.metrics(whole, "valid")] == [8, 16]
    cost = json.loads((whole / "cost.json").read_text())
    assert cost["audio_h"] > 0
    assert cost["wall_s"] > 0


def test_validation_asks_the_same_question_every_time(speech, tmp_path):
    """With a learning rate of zero nothing changes, so neither may the answer."""
    run = runs.train(
        speech, tmp_path, "train.steps=4", "train.validate_every=2", "optimizer.lr=0", *GROUP_NORM
    )
    first, second = runs.metrics(run, "valid")
    assert {k: v for k, v in first.items() if k not in ("step", "time")} == {
        k: v for k, v in second.items() if k not in ("step", "time")
    }


GROUP_NORM = ("encoder.conv_norm=layer",)  # no running statistics


def test_steps_that_are_not_finite_move_nothing_are_counted_and_stop_the_run(speech, tmp_path):
    overrides = ("optimizer.lr=1e30", "train.clip=0", "train.max_skipped=3", "schedule=constant", STEPS)
    code, said = runs.finish(runs.start(speech, tmp_path, *overrides, *GROUP_NORM))
    assert code == 2, said
    assert "3 steps in a row had a non-finite loss or gradient" in said
    assert "Traceback" not in said


def broken_copy(speech, folder):
    """The training manifest with one file that decodes to NaN and one that does not decode."""
    lines = [json.loads(line) for line in speech["train"].read_text().splitlines()]
    wave, rate = sf.read(lines[0]["audio_filepath"], dtype="float32")
    wave[100] = float("nan")
    sf.write(folder / "nan.wav", wave, rate, subtype="FLOAT")
    lines[0]["audio_filepath"] = str(folder / "nan.wav")
    (folder / "noise.flac").write_bytes(random.Random(0).randbytes(5000))
    lines[1]["audio_filepath"] = str(folder / "noise.flac")
    manifest = folder / "train.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {**speech, "train": manifest}


def test_utterances_that_cannot_be_used_are_left_out_and_counted(speech, tmp_path):
    code, said = runs.finish(
        runs.start(broken_copy(speech, tmp_path), tmp_path / "runs", STEPS, "data.max_bad=0.5")
    )
    assert code == 0, said
    assert "nan.wav: holds NaN" in said
    assert "noise.flac" in said
    last = runs.metrics(runs.only_run(tmp_path / "runs"))[-1]
    assert last["bad_utterances"] >= 2
    assert last["skipped_steps"] == 0


def test_too_many_of_them_stop_the_run(speech, tmp_path):
    code, said = runs.finish(
        runs.start(broken_copy(speech, tmp_path), tmp_path / "runs", "train.steps=60", "data.max_bad=0.01")
    )
    assert code == 2, said
    assert "more than data.max_bad=0.01" in said
    assert "Traceback" not in said


def test_wandb_gets_an_offline_run_of_the_same_name(speech, tmp_path):
    run = runs.train(speech, tmp_path, "train.steps=2", "log.wandb=offline")
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    assert run.name in file.name
    assert file.stat().st_size > 1000
