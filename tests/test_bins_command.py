"""`hark bins` on any data, and runs that take its file."""

import json
import tarfile

import numpy as np
import pytest
import yaml

from research import runs
from research.cli import main
from research.compose import compose_config
from research.data.bins import padding
from research.data.manifest import load
from research.data.plan import Plan, by_budget
from research.engine.gangs import start
from research.errors import HarkError
from research.training.loop import open_source
from tests.durations import cells_of, manifest, speech
from tests.sharded import as_shar, lines_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(capsys, *words):
    code = main(["bins", *words])
    told = capsys.readouterr()
    assert code == (2 if told.err.startswith("hark: ") else 0), told.err
    return told.out + told.err


@pytest.mark.parametrize("strategy", ["padding", "equal"])
@pytest.mark.parametrize(
    "durations", [[3.0], [2.0] * 50, [1.0, 9.0], [0.1, 59.9999, 60.0, 60.0], [1 / 3, 14.530000000000001]]
)
def test_the_top_bucket_is_covered(tmp_path, strategy, durations):
    path = manifest(tmp_path / "m.jsonl", durations)
    assert main(["bins", path, "--buckets", "4", "--strategy", strategy]) == 0
    data = compose_config(["data.bins=bins.yaml"]).config.data
    found = load([path], data, headers=False).durations
    plan = Plan(found, *by_budget(found, data))
    heard = np.concatenate([plan[b].rows for b in range(plan.per_epoch)])
    assert sorted(heard.tolist()) == list(range(len(durations)))
    assert data.bounds[-1] - max(durations) < 1e-3


def test_the_file_and_the_picture(tmp_path, capsys):
    durations = speech()
    path = manifest(tmp_path / "m.jsonl", [0.05, *durations, 70.0])
    out = run(capsys, path, "--buckets", "8", "--batch-seconds", "60", "--out", "made/b.yaml")
    found = yaml.safe_load((tmp_path / "made" / "b.yaml").read_text())
    bounds, sizes, made = np.array(found["bounds"]), found["sizes"], found["made"]
    assert sizes == (60 // bounds).tolist()
    assert made["inputs"] == [path]
    assert made["utterances"] == 1000
    assert made["hours"] == pytest.approx(durations.sum() / 3600, abs=1e-3)
    assert made["left_out"] == {"under 0.1 s": 1, "over 60 s": 1}
    batched = Plan(durations, bounds, np.array(sizes)).padding()
    assert made["padding"]["batched"] == pytest.approx(batched, abs=2e-3)
    assert made["padding"]["to_bounds"] == pytest.approx(padding(cells_of(durations), bounds), abs=1e-4)
    assert (tmp_path / "made" / "b.png").read_bytes().startswith(b"\x89PNG")
    for told in (
        "padding",
        "equal",
        "left out: under 0.1 s",
        f"{made['padding']['batched']:.2%}",
        f"{bounds[0]:.3f}",
    ):
        assert told in out
    assert compose_config(["data.bins=made/b.yaml"]).config.data.sizes == sizes


def test_sizes_are_left_to_the_run_without_a_budget(tmp_path, capsys):
    run(capsys, manifest(tmp_path / "m.jsonl", speech()))
    assert "sizes" not in yaml.safe_load((tmp_path / "bins.yaml").read_text())
    data = compose_config(["data.bins=bins.yaml", "data.batch_seconds=80"]).config.data
    assert by_budget(speech(), data)[1].tolist() == (80 // np.array(data.bounds)).tolist()


def test_a_run_and_its_overrides_are_inputs(tmp_path, capsys):
    path = manifest(tmp_path / "m.jsonl", speech())
    words = [f"data.train=[{path}]", "data.buckets=5", "data.max_seconds=10"]
    run(capsys, *words)
    typed = yaml.safe_load((tmp_path / "bins.yaml").read_text())
    assert len(typed["bounds"]) == 5
    assert typed["bounds"][-1] <= 10
    composed = compose_config(words)
    folder = runs.create(composed.config, composed.choices, composed.overrides)
    run(capsys, str(folder), "--out", "again.yaml")
    assert yaml.safe_load((tmp_path / "again.yaml").read_text())["bounds"] == typed["bounds"]


def test_a_mixture_counts_by_its_weights(tmp_path, capsys):
    manifest(tmp_path / "short.jsonl", np.full(900, 2.0))
    manifest(tmp_path / "long.jsonl", np.full(100, 8.0))
    (tmp_path / "mix.yaml").write_text("- {path: short.jsonl, weight: 1}\n- {path: long.jsonl, weight: 3}\n")
    run(capsys, "mix.yaml", "--buckets", "1")
    made = yaml.safe_load((tmp_path / "bins.yaml").read_text())["made"]
    assert made["utterances"] == 1000
    assert made["hours"] == pytest.approx((250 * 2 + 750 * 8) / 3600, abs=1e-3)
    assert made["padding"]["to_bounds"] == pytest.approx(1 - 6500 / 8000, abs=1e-4)
    run(
        capsys,
        "data=lhotse",
        "data.train=[mix.yaml]",
        "data.window_seconds=5",
        "data.speed.prob=0.5",
        "data.buckets=9",
    )
    made = yaml.safe_load((tmp_path / "bins.yaml").read_text())
    assert made["bounds"] == pytest.approx(
        sorted({d / s for d in (2, 3, 5) for s in (0.9, 1, 1.1)}), abs=1.1e-3
    )
    assert made["made"]["utterances"] == 250 + 1500


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bounds: [1.0, 2.0]\nsizes: [3]", "holds 2 bounds, but 1 sizes"),
        ("bounds: []", "does not hold bounds; `hark bins"),
        ("sizes: [3]", "does not hold bounds; `hark bins"),
        ("bounds: [1.0, a]", "does not hold bounds; `hark bins"),
        ("- 1.0", "does not hold bounds; `hark bins"),
        ("bounds: [", "does not hold bounds; `hark bins"),
        ("", "does not hold bounds; `hark bins"),
    ],
)
def test_files_that_hold_no_bins(tmp_path, text, told):
    (tmp_path / "b.yaml").write_text(text)
    with pytest.raises(HarkError, match=r"data.bins=b.yaml: ") as error:
        compose_config(["data.bins=b.yaml"])
    assert told in str(error.value)


def test_bins_come_from_one_place(tmp_path):
    (tmp_path / "b.yaml").write_text("bounds: [1.0, 2.0]")
    for typed in ("data.bounds=[1.0,3.0]", "data.sizes=[4,2]"):
        with pytest.raises(HarkError, match=r"data.bins=b.yaml: holds bounds and sizes; leave out"):
            compose_config(["data.bins=b.yaml", typed])
    with pytest.raises(HarkError, match=r"data.bins=gone.yaml: cannot be read \(No such file"):
        compose_config(["data.bins=gone.yaml"])


def test_the_same_bins_are_the_same_run_wherever_the_file_is(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(f"bounds: [1.0, 2.0]\nmade: {{command: hark bins --out={name}}}")
    first, again, without = (
        runs.signature(compose_config(words).config)
        for words in (["data.bins=a.yaml"], ["data.bins=b.yaml"], ["data.bounds=[1.0,2.5]"])
    )
    assert first == again != without


def test_tars_are_inputs(tmp_path, capsys):
    folder = tmp_path / "tars"
    (folder / "sharded_manifests").mkdir(parents=True)
    for shard in range(2):
        manifest(folder / "sharded_manifests" / f"manifest_{shard}.json", [1.0 + shard, 4.0], shard_id=shard)
        with tarfile.open(folder / f"audio_{shard}.tar", "w") as tar:
            for i in range(2):
                (tmp_path / "x").write_bytes(b"RIFF")
                tar.add(tmp_path / "x", f"manifest_{shard}-{i}.wav")
    run(capsys, str(folder))
    assert yaml.safe_load((tmp_path / "bins.yaml").read_text())["bounds"] == [1.0, 2.0, 4.0]


def test_a_shar_is_an_input(speech, tmp_path, capsys):
    shar = as_shar(speech["train"], tmp_path / "shar")
    run(capsys, str(shar), "--out", "shar.yaml")
    run(capsys, str(speech["train"]), "--out", "manifest.yaml")
    of_shar, of_manifest = (
        yaml.safe_load((tmp_path / name).read_text()) for name in ("shar.yaml", "manifest.yaml")
    )
    assert of_shar["bounds"] == pytest.approx(of_manifest["bounds"], abs=2e-3)
    assert of_shar["made"]["utterances"] == of_manifest["made"]["utterances"] == 60


@pytest.mark.parametrize("reader", ["manifest", "lhotse"])
def test_only_training_must_fit_the_bins(speech, tmp_path, reader):
    held_out = lines_of(speech["valid"])
    limit = sorted(line["duration"] for line in held_out)[4]
    short = [line for line in lines_of(speech["train"]) if line["duration"] <= limit]
    (tmp_path / "short.jsonl").write_text("".join(json.dumps(line) + "\n" for line in short))
    words = [f"data={reader}", f"data.bounds=[{limit}]", "data.sizes=[3]", f"data.valid=[{speech['valid']}]"]
    words += ["data.workers=0", "data.reader=torch"]
    source = open_source(compose_config([*words, "data.train=[short.jsonl]"]).config, start("cpu"))
    heard = [name for _, batch in source.valid() for name in batch.ids]
    assert len(set(heard)) == len(heard) == len(held_out)
    with pytest.raises(HarkError, match=rf"data.bounds: the last is {limit:.2f} s, but an utterance lasts"):
        open_source(compose_config([*words, f"data.train=[{speech['train']}]"]).config, start("cpu"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["m.jsonl", "--buckets", "0"], "--buckets 0: must be at least 1"),
        (["m.jsonl", "--batch-seconds", "0"], "--batch-seconds 0: must be above 0"),
        (
            ["m.jsonl", "--min-seconds", "50"],
            "m.jsonl: no utterance is left (3 under 50 s); see --min-seconds",
        ),
        (["m.jsonl", "data.buckets=3"], "data.buckets=3: type paths alone, or overrides alone"),
        (["data.buckets=3"], "data.train names nothing"),
        (["gone.jsonl"], "gone.jsonl: cannot be read (No such file"),
        (["broken.jsonl"], "broken.jsonl:2: is not a JSON object"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, words, told):
    manifest(tmp_path / "m.jsonl", [1.0, 2.0, 3.0])
    (tmp_path / "broken.jsonl").write_text('{"audio_filepath": "a", "duration": 1.0}\n{\n')
    out = run(capsys, *words)
    assert told in out
    assert out.count("\n") == 1
    assert not (tmp_path / "bins.yaml").exists()
