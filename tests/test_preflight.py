"""Jobs that cannot work are refused before they are queued, each for its own reason; good ones pass."""

import fcntl
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from research import runs
from research.cli import main
from research.compose import compose_config
from research.contracts import Batch, Seq
from research.launch.checks.job import Job
from research.launch.checks.mask import mask
from research.launch.checks.plan import plan_of
from research.launch.preflight import of_overrides, preflight
from research.model import assemble
from tests.origins import make_run
from tests.sharded import as_shar, as_tars
from tests.sounds import RATE, signal_of, write

SMALL = (
    "encoder=fastconformer_tiny", "quantizer.codes=64", "masking.length=12", "data.batch_seconds=12", "data.buckets=4",
)  # fmt: skip


def base(speech, folder):
    return (
        f"data.train=[{speech['train']}]",
        f"data.valid=[{speech['valid']}]",
        f"run.folder={folder / 'runs'}",
    )


def typed(*overrides):
    return lambda speech, folder: overrides


def spoilt(change):
    """Every tenth line of a manifest is changed."""

    def plant(speech, folder):
        lines = [json.loads(line) for line in Path(speech["train"]).read_text().splitlines()]
        for line in lines[::10]:
            change(line, folder)
        return (f"data.train=[{write(folder / 'train.jsonl', *lines)}]",)

    return plant


def gone(line, folder):
    line["audio_filepath"] += ".gone"


def undecodable(line, folder):
    (folder / "broken.wav").write_bytes(b"not audio")
    line.update(audio_filepath=str(folder / "broken.wav"), id=line["audio_filepath"])


def too_long(line, folder):
    line["duration"] += 2.0


def text(lines):
    def plant(speech, folder):
        (folder / "train.jsonl").write_text(lines)
        return (f"data.train=[{folder / 'train.jsonl'}]",)

    return plant


def sounds(make, *overrides, rate=RATE):
    """All utterances sound like `make(i)`."""

    def plant(speech, folder):
        lines = []
        for i in range(20):
            soundfile.write(folder / f"{i}.wav", make(i), rate, subtype="FLOAT")
            lines.append({"audio_filepath": f"{i}.wav", "duration": len(make(i)) / rate})
        return (f"data.train=[{write(folder / 'train.jsonl', *lines)}]", *overrides)

    return plant


def with_nan(i):
    x = signal_of(1.0 + i / 20, RATE)
    x[100] = np.nan
    return x


def short_bins(speech, folder):
    (folder / "bins.yaml").write_text("bounds: [0.8, 1.0]\nsizes: [8, 4]\n")
    return (f"data.bins={folder / 'bins.yaml'}", "data.valid=[]")


def other_weights(speech, folder):
    wide = make_run(folder / "wide", "encoder=fastconformer_tiny", "quantizer.codes=64", "encoder.dim=96")
    return (f"init={wide}",)


def no_noise(speech, folder):
    corpus = write(folder / "noise.jsonl", {"audio_filepath": "hum.wav", "duration": 3.0})
    return ("augmentation=noise", f"data.noise=[{corpus}]")


def under_a_file(speech, folder):
    (folder / "file").write_text("")
    return (f"run.folder={folder / 'file' / 'runs'}",)


def streamed(plant, *overrides):
    """The same with the reader of streams."""
    return lambda speech, folder: ("data=lhotse", *plant(speech, folder), *overrides)


def lost_shard(speech, folder):
    shar = as_shar(speech["train"], folder / "shar")
    (shar / "recording.000001.tar").unlink()
    return (f"data.train=[{shar}]",)


BAD = {
    "typo": (typed("train.stepz=3"), "config", "train.steps"),
    "illegal": (typed("quantizer=gumbel"), "config", "type quantizer=random_projection"),
    "noise without a corpus": (typed("augmentation=noise"), "config", "data.noise names no manifest"),
    "no data": (typed("data.train=[]"), "train", "no manifest is named"),
    "empty manifest": (text(""), "train", "this manifest is empty"),
    "broken line": (text('{"audio_filepath": "a.wav"\n'), "train", "train.jsonl:1: is not a JSON object"),
    "no manifest": (typed("data.train=[nowhere.jsonl]"), "train", "cannot be read"),
    "interval of 0": (typed("train.log_every=0"), "settings", "train.log_every=0: must be at least 1"),
    "no weights": (typed("init=nowhere.nemo"), "init", "nowhere.nemo"),
    "weights of another shape": (other_weights, "init", "type encoder.dim=96 as there"),
    "missing files": (spoilt(gone), "files", "is missing"),
    "broken files": (spoilt(undecodable), "files", "cannot be decoded"),
    "durations too long": (spoilt(too_long), "durations", "end before the manifest says"),
    "another rate": (sounds(lambda i: signal_of(1.0, 8000, 2), "data.strict=true", rate=8000), "conversion", "2 channels, 8000 Hz"),
    "NaN": (sounds(with_nan), "sound", "NaN or infinite"),
    "silence": (sounds(lambda i: np.zeros(RATE)), "sound", "digital silence"),
    "filters": (typed("data.min_seconds=2.5", "data.valid=[]"), "filters", "under 2.5 s"),
    "bins too short": (short_bins, "bins", "make the bins anew"),
    "no noise": (no_noise, "noise", "data.noise: 1 of 1 files"),
    "masks too long": (typed("masking.length=400"), "mask", "100.0% of the batches"),
    "no GPU": (typed("run.device=cuda"), "device", "there will be no GPU"),
    "unknown GPU": (typed("cluster.device=h1000"), "device", "did you mean 'h100'"),
    "memory": (typed("cluster.memory_gb=0.5"), "memory", "cluster.memory_gb has 0.5"),
    "GPU memory": (typed("encoder.channels=4096", "data.batch_seconds=200", "data.buckets=1", "cluster.device=t4"), "memory", "t4 has"),
    "time": (typed("cluster.device=h100", "checkpoint.every=1000000000", "train.steps=2000000000"), "time", "not even the"),
    "disk": (typed("checkpoint.keep_last=10000000"), "disk", "lower checkpoint.keep_last"),
    "no source": (streamed(typed("data.train=[]")), "train", "no source is named"),
    "a lost shard": (streamed(lost_shard), "train", "its partner, number 1"),
    "streams of missing files": (streamed(spoilt(gone)), "sound", "is missing"),
    "streams of silence": (streamed(sounds(lambda i: np.zeros(RATE))), "sound", "digital silence"),
    "nothing is kept": (streamed(typed(), "+data.keep={lang: xx}"), "filters", "data.keep"),
    "nothing to mix": (streamed(typed(), "data.mix.prob=0.5"), "train", "needs data.mix.paths"),
    "folder": (under_a_file, "disk", "cannot be written"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_jobs_are_refused_for_their_reason(name, speech, tmp_path):
    plant, check, words = BAD[name]
    overrides = [*SMALL, *base(speech, tmp_path), *plant(speech, tmp_path)]
    found = of_overrides(overrides, 200)
    refused = {each.name: each.text for each in found if each.verdict.value == "refuse"}
    assert list(refused) == [check]
    assert words in refused[check]


def noisy(speech, folder):
    corpus = folder / "noise.jsonl"
    soundfile.write(folder / "hum.wav", signal_of(3.0, RATE), RATE)
    write(corpus, {"audio_filepath": "hum.wav", "duration": 3.0})
    return (*SMALL, "augmentation=noise", f"data.noise=[{corpus}]")


def good_bins(speech, folder):
    (folder / "bins.yaml").write_text("bounds: [1.0, 2.0, 3.0]\nsizes: [8, 4, 2]\n")
    return (*SMALL, f"data.bins={folder / 'bins.yaml'}")


def shar(speech, folder):
    mix = noisy(speech, folder)[-1].replace("data.noise", "data.mix.paths")
    return (
        *SMALL,
        "data=lhotse",
        f"data.train=[{as_shar(speech['train'], folder / 'shar')}]",
        "data.mix.prob=0.5",
        mix,
    )


def tars(speech, folder):
    folder = as_tars(speech["train"], folder / "tars")
    return (
        *SMALL,
        "data=lhotse",
        f"data.train=[{{path: {folder}, tags: {{lang: en}}}}]",
        "data.speed.prob=0.5",
    )


GOOD = {
    "nest_demo": typed("experiment=nest_demo"),
    "w2v_bert_demo": typed("experiment=w2v_bert_demo"),
    "NEST on an H100": typed(
        "experiment=nemo_nest_fast_conformer", "data.min_seconds=0.5", "cluster=slurm_h100"
    ),
    "wav2vec 2.0 on an A100": typed("experiment=wav2vec2_base", "data.min_seconds=0.5", "cluster=slurm_a100"),
    "wav2vec on an L4": typed(
        "experiment=nemo_wav2vec_ci", "data.min_seconds=0.5", "cluster.device=l4", "train.steps=1000"
    ),
    "Citrinet": typed("experiment=nemo_citrinet_ci", "data.min_seconds=0.5", "cluster.device=l40s"),
    "BestRQ": typed(*SMALL, "objective=best_rq", "quantizer=best_rq"),
    "bf16": typed(*SMALL, "train.precision=bf16", "cluster.device=a100"),
    "compiled": typed(*SMALL, "train.compile=true", "cluster.device=a100"),
    "noise": noisy,
    "bins": good_bins,
    "Shar and noise": shar,
    "tars at other speeds": tars,
    "windows of a manifest": typed(*SMALL, "data=lhotse", "data.window_seconds=1"),
    "two ranks": typed(*SMALL, "cluster.per_node=2", "data.batch_seconds=6"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_jobs_pass(name, speech, tmp_path):
    found = preflight(compose_config([*base(speech, tmp_path), *GOOD[name](speech, tmp_path)]), sample=40)
    assert [each for each in found if each.verdict.value == "refuse"] == []
    assert {"train", "mask", "memory", "disk", "imports"} <= {each.name for each in found}


@pytest.mark.parametrize("length", [60, 100, 150])
def test_the_share_of_batches_without_a_target_is_that_of_the_plan(length, speech, tmp_path):
    overrides = [*SMALL, *base(speech, tmp_path), "data.batch_seconds=3", f"masking.length={length}"]
    job = Job(compose_config(overrides), 20)
    plan, objective = job.get(plan_of), assemble(job.cfg)
    empty = 0
    for number in range(plan.per_epoch):
        lengths = torch.from_numpy((plan.durations[plan[number].rows] * RATE).astype(int))
        audio = Seq(torch.zeros(len(lengths), int(lengths.max())), lengths)
        empty += objective(Batch.clean(audio)).count == 0
    said = mask(job)
    assert (empty > 0) == (length > 60)
    if empty:
        assert f"{empty / plan.per_epoch:.1%} of the batches" in said.text
    assert said.verdict.value == (
        "ok" if not empty else "warn" if empty <= 0.1 * plan.per_epoch else "refuse"
    )


def verdicts(overrides):
    return {each.name: (each.verdict.value, each.text) for each in of_overrides(overrides, 20)}


def hold(path, ready):
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        ready.set()
        time.sleep(600)


def test_a_job_that_runs_already_is_refused(speech, tmp_path):
    overrides = [*SMALL, *base(speech, tmp_path)]
    folder = runs.folder(compose_config(overrides).config)
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(folder / "lock", ready))
    other.start()
    try:
        assert ready.wait(60)
        verdict, said = verdicts(overrides)["run"]
    finally:
        other.kill()
        other.join()
    assert verdict == "refuse"
    assert "another process is at this run" in said
    assert verdicts(overrides)["run"] == ("ok", f"{folder}: goes on after step 0")


def test_a_finished_job_is_told(speech, tmp_path):
    overrides = [*SMALL, *base(speech, tmp_path), "train.steps=4"]
    folder = runs.folder(compose_config(overrides).config)
    (folder / "checkpoints" / "step_4").mkdir(parents=True)
    verdict, said = verdicts(overrides)["run"]
    assert verdict == "warn"
    assert "is finished after 4 steps" in said


def test_plugins_that_only_import_here_are_refused(speech, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "broken_one.py").write_text("import a_missing_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # where Python looks first, here and not in a job
    monkeypatch.setenv("HARK_PLUGINS", "mine")
    overrides = [*SMALL, *base(speech, tmp_path)]
    verdict, said = verdicts(overrides)["imports"]
    assert verdict == "refuse"
    assert "HARK_PLUGINS names mine" in said
    assert "No module named 'mine'" in said
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert verdicts(overrides)["imports"][0] == "ok"
    monkeypatch.setenv("HARK_PLUGINS", "broken_one")
    monkeypatch.setattr("research.registry.broken", {})
    assert "No module named 'a_missing_library'" in verdicts(overrides)["imports"][1]
    assert verdicts(overrides)["plugins"][0] == "warn"


def test_what_is_not_meant_is_warned_of(speech, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    overrides = [
        *SMALL, *base(speech, tmp_path), f"data.valid=[{speech['train']}]", "log.wandb=online", "data.workers=9",
        "data.batch_seconds=1", "cluster.device=a100", "run.device=cpu", "cluster.hours=0.00001", "checkpoint.every=1",
    ]  # fmt: skip
    found = verdicts(overrides)
    words = {
        "valid": "60 of 60 utterances are trained on too",
        "wandb": "type log.wandb=offline",
        "workers": "type data.workers=2",
        "bins": "is longer than data.batch_seconds=1",
        "device": "the GPU will idle",
        "time": "it has to be queued",
    }
    assert {name for name, (verdict, _) in found.items() if verdict == "warn"} == words.keys()
    for name, part in words.items():
        assert part in found[name][1]


def test_lanes_that_ranks_cannot_share_evenly_are_warned_of(speech, tmp_path):
    two = [*SMALL, *base(speech, tmp_path), "data=lhotse", "cluster.per_node=2"]
    assert verdicts(two)["lanes"][0] == "warn"
    assert "1 lanes are no multiple of the 2 ranks" in verdicts(two)["lanes"][1]
    assert "lanes" not in verdicts([*two, "data.buffer=10"])


def test_the_command_refuses_in_one_line_unless_forced(speech, tmp_path, capsys):
    overrides = [*SMALL, *base(speech, tmp_path), "checkpoint.keep_last=10000000", "cluster.memory_gb=0.1"]
    assert main(["preflight", *overrides]) == 2
    shown = capsys.readouterr()
    assert shown.err == "hark: this job is refused by memory, disk; see above, or type --force\n"
    assert "lower checkpoint.keep_last" in " ".join(shown.out.split())
    assert main(["preflight", *overrides, "--force", "--json"]) == 0
    shown = capsys.readouterr()
    found = {each["name"]: each["verdict"] for each in json.loads(shown.out)}
    assert found["disk"] == found["memory"] == "refuse"
    assert found["train"] == "ok"
    assert shown.err == "hark: this job is refused by memory, disk; forced\n"
