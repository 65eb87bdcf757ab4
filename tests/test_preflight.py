"""Jobs that cannot work are refused before they are queued, each for its own reason; good ones pass."""

import json

import numpy as np
import pytest

from research.cli import main
from research.compose import compose_config
from research.launch.preflight import of_overrides, preflight
from tests.planted import (
    SMALL,
    base,
    gone,
    good_bins,
    lost_shard,
    no_noise,
    noisy,
    other_weights,
    shar,
    short_bins,
    sounds,
    spoilt,
    streamed,
    tars,
    text,
    too_long,
    typed,
    undecodable,
    under_a_file,
    with_nan,
)
from tests.sounds import RATE, signal_of

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
    "GPU memory": (
        sounds(lambda i: signal_of(20.0, RATE), "encoder.channels=2048", "data.batch_seconds=400", "cluster.device=t4"),
        "memory", "t4 has",
    ),
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


GOOD = {
    "nest_demo": typed("experiment=nest_demo"),
    "w2v_bert_demo": typed("experiment=w2v_bert_demo"),
    "NEST on an H100": typed(
        "experiment=nemo_nest_fast_conformer", "data.min_seconds=0.5", "cluster=slurm_h100", "train.batches=8"
    ),
    "wav2vec 2.0 on an A100": typed(
        "experiment=wav2vec2_base", "data.min_seconds=0.5", "cluster=slurm_a100", "train.batches=8"
    ),
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
    "two ranks": typed(*SMALL, "cluster.per_node=2", "train.batches=2", "data.batch_seconds=6"),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_jobs_pass(name, speech, tmp_path):
    found = preflight(compose_config([*base(speech, tmp_path), *GOOD[name](speech, tmp_path)]), sample=40)
    assert [each for each in found if each.verdict.value == "refuse"] == []
    assert {"train", "mask", "memory", "disk", "imports"} <= {each.name for each in found}


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
