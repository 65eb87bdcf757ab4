import itertools
import json
import tarfile

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from research import runs
from research.cli import main
from research.compose import compose_config
from research.data import bins, pieces, scan
from research.data.bins import Histogram, Part, equal, histogram, least_padding, padding, written
from research.data.entry import parse, seconds_of
from research.data.manifest import load
from research.data.plan import Plan, bucket_bounds, by_budget
from research.engine.gangs import start
from research.errors import HarkError
from research.training.loop import open_source
from tests.sharded import as_shar, lines_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def speech(utterances=1000, seed=0):
    return np.random.default_rng(seed).lognormal(1.5, 0.7, utterances).clip(0.3, 40.0).round(3)


def manifest(path, durations, **more):
    lines = [
        {"audio_filepath": f"{path.stem}-{i}.wav", "duration": float(d)} | more
        for i, d in enumerate(durations)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def cells_of(durations, repeats=1.0):
    return histogram([Part(np.asarray(durations), repeats)])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 9)), min_size=1, max_size=9),
    st.integers(1, 10),
)
def test_bounds_of_least_padding_are_the_best_there_are(found, buckets):
    cells = cells_of(np.repeat([d / 10 for d, _ in found], [count for _, count in found]))
    *inner, longest = cells.longest
    fewer = range(min(buckets, len(cells.longest)))
    every = [[*some, longest] for size in fewer for some in itertools.combinations(inner, size)]
    best = min(padding(cells, np.array(bounds)) for bounds in every)
    bounds = least_padding(cells, buckets)
    assert padding(cells, bounds) == pytest.approx(best, abs=1e-12)
    assert len(bounds) <= buckets


def test_more_cells_than_one_stride_are_solved_too():
    rng = np.random.default_rng(0)
    for size in (31, 32, 33, 100):
        longest = np.sort(rng.choice(5000, size, replace=False)) / 100
        counts = rng.integers(1, 50, size).astype(float)
        cells = Histogram(longest, counts, counts * longest)
        # the same recursion, all splits tried
        before, bound = np.append(0, np.cumsum(counts)), np.append(0, longest)
        cost = bound * before
        for _ in range(6):
            cost = np.array(
                [
                    min(cost[i] + bound[j] * (before[j] - before[i]) for i in range(j + 1))
                    for j in range(size + 1)
                ]
            )
        assert padding(cells, least_padding(cells, 7)) == pytest.approx(1 - cells.seconds.sum() / cost[-1])


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


def test_what_is_written_is_rounded_up_to_milliseconds_and_no_further():
    assert written(np.array([2.16, 14.53, 20.0, 28.31961, 30.0000000001])) == [
        2.16,
        14.53,
        20.0,
        28.32,
        30.0000000001,
    ]


def test_buckets_of_equal_audio():
    durations = speech(20_000)
    cells = cells_of(durations)
    bounds = equal(cells.longest, cells.seconds, 30)
    audio = np.bincount(np.searchsorted(bounds, durations), durations)
    assert len(bounds) == 30
    assert bounds[-1] == durations.max()
    assert audio == pytest.approx(np.full(30, durations.sum() / 30), rel=0.1)
    assert padding(cells, bucket_bounds(durations, 30)) < padding(cells, bounds)


def test_a_histogram_keeps_all_audio_and_the_longest_of_each_cell():
    cells = histogram([Part(np.array([0.101, 0.109, 0.11, 5.0]), 1.0), Part(np.array([0.105, 7.0]), 2.5)])
    assert cells.longest.tolist() == [0.11, 5.0, 7.0]
    assert cells.counts.tolist() == [5.5, 1.0, 2.5]
    assert cells.seconds == pytest.approx([0.101 + 0.109 + 0.11 + 2.5 * 0.105, 5.0, 17.5])
    parts = [Part(speech(seed=seed), 1.0 + seed) for seed in range(3)] + [Part(np.zeros(0), 1.0)]
    cells = histogram(parts)
    assert (np.diff(cells.longest) > 0).all()
    assert cells.counts.sum() == 6000
    assert cells.seconds.sum() == pytest.approx(sum(part.durations.sum() * part.repeats for part in parts))
    assert set(cells.longest) <= set(np.concatenate([part.durations for part in parts]))


def test_padding_is_that_of_the_definition():
    durations, bounds = speech(), np.array([2.0, 5.0, 11.0, 40.0])
    padded = bounds[np.searchsorted(bounds, durations)].sum()
    assert padding(cells_of(durations), bounds) == pytest.approx(1 - durations.sum() / padded)


def test_an_epoch_hears_a_source_as_often_as_its_share_says():
    parts = [
        Part(np.array([3.0, 1.0, 2.0]), 2.0),
        Part(np.arange(1.0, 101.0), 0.1),
        Part(np.array([9.0]), 0.2),
    ]
    heard = bins.epoch(parts)
    assert heard.tolist() == [1, 1, 2, 2, 3, 3, *range(1, 101, 10)]


LINES = [
    {"audio_filepath": "a", "duration": 2.5},
    {"audio_filename": "a", "duration": 2},
    {"text": 'says "duration": 7.5, twice', "duration": 1.5, "audio_filepath": "a"},
    {"text": "ends in a backslash \\", "audio_filepath": "a", "duration": 1.25},
    {"segments": [{"duration": 9.0}], "duration": 3.5, "more": {"duration": 8.0}, "audio_filepath": "a"},
    {"audio_filepath": "a", "offset": 4.5, "duration": 0.5},
    {"audio_filepath": "a", "offset": None, "duration": 0.5},
    {"audio_filepath": "a", "duration": 6.0, "_skipme": True},
    {"audio_filepath": "a", "duration": 6.0, "_skipme": False},
    {"duration": "none", "_skipme": 1},
    {"audio_filepath": "a", "duration": 6.0, "feature_path": "f", "feature_key": "k"},
    '{"audio_filepath": "a", "duration": 1.0, "duration": 2.0}',
    '{"dur\\u0061tion": 3.0, "audio_filepath": "a", "text": "\\ud800"}',
    '{"audio_filepath":"a","duration":1.5e1,"x":NaN}',
    ' \t{ "audio_filepath" : "a" , "duration" : 12 } \r',
]
WRONG = [
    "{",
    "[]",
    '{"audio_filepath": "a"}',
    '{"duration": 1.0}',
    '{"audio_filepath": "", "duration": 1.0}',
    '{"audio_filepath": "a", "duration": 0.0}',
    '{"audio_filepath": "a", "duration": "1.0"}',
    '{"audio_filepath": "a", "duration": true}',
    '{"audio_filepath": "a", "duration": NaN}',
    '{"audio_filepath": "a", "duration": 1e999}',
    '{"audio_filepath": "a", "duration": 1.0, "offset": -1}',
    '{"audio_filepath": "a", "duration": 1.0, "offset": "0"}',
    '{"audio_filepath": "a", "duration": 1.0, "feature_path": "f"}',
    '{"audio_filepath": "a", "duration": 1.0}}',
]


@pytest.mark.parametrize("line", LINES)
def test_a_duration_is_what_the_whole_check_finds(line):
    line = (line if isinstance(line, str) else json.dumps(line)).encode()
    assert seconds_of(line, "/") == parse(line, "/").duration


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_refused_as_the_whole_check_does(tmp_path, line):
    with pytest.raises(ValueError) as error:
        parse(line.encode(), "/")
    with pytest.raises(ValueError) as ours:
        seconds_of(line.encode(), "/")
    assert str(ours.value) == str(error.value)


def test_durations_come_from_lines_or_from_the_cache(tmp_path, monkeypatch):
    path = tmp_path / "m.jsonl"
    lines = [line if isinstance(line, str) else json.dumps(line) for line in LINES]
    path.write_text("\n".join(lines))
    monkeypatch.setattr(pieces, "SIZE", 200)
    found = scan.durations_of(path)
    kept = scan.rows_of(path, headers=False)
    assert found.tolist() == kept["duration"][~kept["skip"]].tolist()
    monkeypatch.setattr(scan, "gather", None)
    assert scan.durations_of(path).tolist() == found.tolist()


def run(capsys, *words):
    code = main(["bins", *words])
    told = capsys.readouterr()
    assert code == (2 if told.err.startswith("hark: ") else 0), told.err
    return told.out + told.err


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
