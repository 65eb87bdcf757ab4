"""What is shown of a run is what it does; neighbours and agreement equal slow versions on random data."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from research.analysis import look, look_layers, look_phones, look_pictures
from research.contracts import Seq
from research.downstream import Features
from research.engine.weights import load_model
from research.errors import HarkError
from research.model import assemble
from tests.origins import make_run
from tests.pictures import faults


@pytest.fixture(scope="module")
def run(speech, tmp_path_factory):
    data = (f"data.train=[{speech['train']}]", f"data.valid=[{speech['valid']}]")
    return make_run(
        tmp_path_factory.mktemp("runs"),
        *data,
        "augmentation=speaker_noise",
        "augmentation.prob=1.0",
        steps=(1, 2),
    )


@pytest.fixture(scope="module")
def opened(run):
    return look.open_run(run)


def test_a_step_is_opened_and_step_0_is_how_it_began(run, opened):
    for step in (1, 2):
        kept = load_model(run / "checkpoints" / f"step_{step}")
        state = look.open_run(run, step).objective.state_dict()
        assert all(torch.equal(state[name], kept[name]) for name in state)
    assert opened.step == 2
    begun, first = look.open_run(run, 0).objective.state_dict(), assemble(opened.config).state_dict()
    assert all(torch.equal(begun[name], first[name]) for name in first)
    with pytest.raises(HarkError, match=r"no checkpoint of step 7 is here \(there are: 2, 1\)"):
        look.open_run(run, 7)


def test_what_is_heard_is_masked_and_augmented_as_in_training(opened):
    drawn = torch.get_rng_state()
    heard = look.hear(opened, count=4, seconds=1.5)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [each.changed for each in heard.utterances] == [True] * 4
    for each in heard.utterances:
        frames = opened.objective.frontend(Seq(each.clean[None], torch.tensor([len(each.clean)]))).x.size(1)
        assert abs(len(each.masked) - frames) <= 1
        assert each.masked.any()
        assert each.period == pytest.approx(0.01)
    again, other = look.hear(opened, count=4, seconds=1.5), look.hear(opened, count=4, seconds=1.5, seed=1)
    assert torch.equal(again.targets, heard.targets)
    assert any(
        not torch.equal(a.masked, b.masked) for a, b in zip(other.utterances, heard.utterances, strict=True)
    )
    assert heard.targets.shape == heard.predictions.shape
    assert heard.targets.size(1) == opened.objective.quantizer.books


def test_codes_are_counted_by_hand(opened):
    heard = look.hear(opened, count=4, seconds=1.5)
    shares = look_pictures.code_shares(heard)
    books = heard.targets.size(1)
    first = [max(torch.bincount(heard.targets[:, g]).tolist()) for g in range(books)]
    assert shares["targets"].iloc[0] == pytest.approx(sum(first) / books / len(heard.targets))
    assert shares["targets"].is_monotonic_decreasing
    assert shares.sum().tolist() == pytest.approx([1, 1])
    with pytest.raises(HarkError, match="this method has no codes"):
        look_pictures.codes(replace(heard, targets=torch.zeros(0, 0, dtype=torch.long)))


def test_figures_can_be_read(opened):
    heard = look.hear(opened, count=2, seconds=1.5)
    for figure in (look_pictures.masked_spectrogram(heard.utterances[0]), look_pictures.codes(heard)):
        assert isinstance(figure, Figure)
        assert faults(figure) == []


def test_the_newest_run_that_fits_is_found(run, tmp_path):
    (run / "done.json").write_text("{}")
    assert look.newest(run.parent, look.has_codes) == run
    with pytest.raises(HarkError, match=r"no run here fits \(has_codes, probed\('pnmi'\)\); `make demo`"):
        look.newest(run.parent, look.has_codes, look.probed("pnmi"))
    with pytest.raises(HarkError, match=r"no run here fits \(finished\)"):
        look.newest(tmp_path)


def test_manifests_are_found_where_the_run_was_typed(tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / "data", home / "runs" / "one", elsewhere):
        folder.mkdir(parents=True)
    (home / "data" / "train.jsonl").touch()
    monkeypatch.chdir(elsewhere)
    found = look.manifest_of(home / "runs" / "one", "data/train.jsonl")
    assert found == home / "data" / "train.jsonl"
    with pytest.raises(
        HarkError, match=r"^data/none.jsonl: this manifest of .*one is not here; name another one"
    ):
        look.manifest_of(home / "runs" / "one", "data/none.jsonl")


def features(seed, size=6, period=0.02):
    made = torch.Generator().manual_seed(seed)
    frames = [torch.randn(20, size, generator=made) for _ in range(4)]
    cuts = [(0.0, 0.1, "a"), (0.1, 0.2, "b"), (0.2, 0.3, "pau"), (0.3, 0.305, "c"), (0.31, 0.39, "a")]
    return Features(frames, period, [cuts] * 4)


def test_segments_are_means_of_the_frames_whose_centres_they_hold():
    whole = features(0)
    phones = look_phones.segments({0: whole}, shift=0.0)
    assert phones.table["phone"].tolist() == ["a", "b", "c", "a"] * 4
    by_hand = []
    for x, segments in zip(whole.frames, whole.segments, strict=True):
        for start, end, phone in segments:
            inside = [x[t] for t in range(20) if start - 1e-9 <= (t + 0.5) * 0.02 < end - 1e-9] or [
                x[int((start + end) / 2 / 0.02)]
            ]
            by_hand += [torch.stack(inside).mean(0)] if phone != "pau" else []
    y = torch.stack(by_hand)
    y = y - y.mean(0)
    y = y / y.norm(dim=1, keepdim=True)
    assert np.allclose(phones.vectors[0], y.numpy(), atol=1e-6)


def test_neighbours_and_agreement_are_those_of_a_search_by_hand():
    phones = look_phones.segments({0: features(1), 1: features(2)})
    rows = list(phones.table.itertuples())
    for layer in (0, 1):
        x, hits, chances = phones.vectors[layer], [], []
        for i, one in enumerate(rows):
            others = [j for j, other in enumerate(rows) if other.utterance != one.utterance]
            near = sorted(others, key=lambda j: -float(x[i] @ x[j]))
            hits.append(rows[near[0]].phone == one.phone)
            chances += [rows[j].phone == one.phone for j in others]
            assert look_phones.neighbours(phones, layer, i, count=3).index.tolist() == near[:3]
        found = look_phones.agreement(phones).loc[layer]
        assert found["mean"] == pytest.approx(np.mean(hits))
        assert found["chance"] == pytest.approx(np.mean(chances))
        assert found["low"] < found["mean"] < found["high"]


def test_similarities_are_cka_of_the_same_frames():
    one, other = {0: features(3), 1: features(4)}, {0: features(5, size=9)}
    table = look_layers.similarities(one, other)
    for layer in (0, 1):
        x, y = (torch.cat(f.frames).double() for f in (one[layer], other[0]))  # (N, C)
        x, y = x - x.mean(0), y - y.mean(0)
        by_hand = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
        assert table.loc[layer, 0] == pytest.approx(float(by_hand), rel=1e-4)
    assert np.allclose(np.diag(look_layers.similarities(one, one)), 1, atol=1e-5)
    fewer = {0: replace(one[0], frames=one[0].frames[:3])}
    with pytest.raises(HarkError, match="CKA compares representations of the same frames"):
        look_layers.similarities(one, fewer)


def test_a_map_is_the_same_for_the_same_seed():
    phones = look_phones.segments({0: features(6)})
    one, again = look_phones.tsne(phones, 0), look_phones.tsne(phones, 0)
    assert one[["x", "y"]].equals(again[["x", "y"]])
    assert look_phones.commonest(phones, 1) == ["a"]
    assert set(phones.only(["b"]).table["phone"]) == {"b"}


def test_manifests_without_phones_are_refused(opened, speech):
    lines = [json.loads(line) for line in speech["valid"].read_text().splitlines()]
    assert not any("phones" in line for line in lines)
    with pytest.raises(HarkError, match=r"has no phones"):
        look_layers.speech_of(opened, 2, speech["valid"])


def test_what_a_reader_would_stumble_over_is_found():
    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1])
    axes.set_xlabel("time")
    axes.text(0.5, 0.5, "one", transform=axes.transAxes)
    axes.text(0.5, 0.52, "other", transform=axes.transAxes)
    figure.text(0.97, 0.5, "far too long")
    assert faults(figure) == [
        "x axis has no unit: 'time'",
        "y axis has no name",
        "'far too long' is cut off",
        "'one' covers 'other'",
    ]
