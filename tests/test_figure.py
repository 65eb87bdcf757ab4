"""The picture of a run shows what was logged, with legends where no data is."""

import json

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from research.analysis import figure
from research.analysis.runs import metrics, probes
from research.errors import HarkError
from research.evaluation.records import PRETRAINED, RANDOM, WEIGHTED


def line(
    representation,
    layer,
    mean,
    probe="phone_frames",
    metric="accuracy",
    *,
    step=100,
    headline=True,
    period=0.08,
):
    return {
        "schema": 1, "kind": "score", "step": step, "probe": probe, "metric": metric, "headline": headline,
        "representation": representation, "layer": layer, "period": period,
        "mean": mean, "low": mean - 0.02, "high": mean + 0.01,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    logged = []
    for step in range(10, 101, 10):
        values = {
            "loss": 6 - step / 50,
            "acc": step / 500,
            "target_ppl": 200.0,
            "pred_ppl": 2.0 + step,
            "usage": 0.9,
        }
        logged.append({"schema": 1, "step": step, "split": "train", "time": 0.0, **values, "lr": 1e-3})
    logged.append({"schema": 1, "step": 100, "split": "valid", "time": 0.0, "loss": 4.5, "acc": 0.15})
    found = [line(PRETRAINED, 0, 0.1, step=50)]
    for name, metric in (("phone_frames", "accuracy"), ("pnmi", "pnmi")):
        found += [
            line("log_mel", None, 0.4, name, metric),
            line("log_mel", None, 0.2, name, metric, period=0.01),
            line(WEIGHTED, None, 0.65, name, metric),
            line("log_mel", None, 0.1, name, "other", headline=False),
        ]
        found += [line(PRETRAINED, k, 0.5 + k / 10, name, metric) for k in (1, 0, 2)]
        found += [line(RANDOM, k, 0.45, name, metric) for k in (0, 1, 2)]
        found.append({"schema": 1, "kind": "comparison", "step": 100, "probe": name, "metric": metric})
    for name, lines in (("metrics", logged), ("probes", found)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    return tmp_path


def test_a_run_becomes_one_png(run):
    out = run / "overview.png"
    assert figure.overview(run, out) == out
    height, width, _ = imread(out).shape
    assert height > 700
    assert width > 1400
    assert sorted(path.name for path in run.iterdir()) == ["metrics.jsonl", "overview.png", "probes.jsonl"]


def test_layers_are_drawn_in_order_with_their_intervals(run):
    found = probes(run)
    axes = Figure().subplots()
    figure.draw_layers(axes, found[(found["probe"] == "pnmi") & (found["step"] == 100)])
    ours, theirs = axes.containers
    assert ours.lines[0].get_ydata().tolist() == pytest.approx([0.5, 0.6, 0.7])
    assert theirs.lines[0].get_ydata().tolist() == pytest.approx([0.45] * 3)
    (bars,) = ours.lines[2]
    heights = [height for segment in bars.get_segments() for height in segment[:, 1]]
    assert heights == pytest.approx([0.48, 0.51, 0.58, 0.61, 0.68, 0.71])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(labels) == ["log_mel, 80 ms", "pretrained encoder", "random-init encoder", "weighted sum"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("layer", "pnmi")


def test_curves_show_both_splits(run):
    axes = Figure().subplots()
    figure.draw_curves(axes, metrics(run), "masked accuracy", {"acc": ""})
    train, valid = axes.lines
    assert (len(train.get_xdata()), len(valid.get_xdata())) == (10, 1)
    assert valid.get_ydata().tolist() == [0.15]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "masked accuracy")


def test_legends_stand_above_the_data(run):
    drawn = Figure(layout="constrained")
    axes = drawn.subplots()
    found = probes(run)
    figure.draw_layers(axes, found[(found["probe"] == "pnmi") & (found["step"] == 100)])
    drawn.canvas.draw()
    assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1
    assert axes.get_legend().get_window_extent().y1 <= drawn.bbox.y1


def drawn_overview(run, monkeypatch):
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, part, **_: (saved.append(self), part.touch()))
    figure.overview(run, run / "out.png")
    return saved[0]


def test_the_newest_probed_step_is_shown(run, monkeypatch):
    drawn = drawn_overview(run, monkeypatch)
    assert "probed after step 100;" in drawn.get_suptitle()
    for axes in drawn.axes[-2:]:
        assert axes.containers[0].lines[0].get_ydata().tolist() == pytest.approx([0.5, 0.6, 0.7])


def test_an_objective_without_codes_has_fewer_panels(run, monkeypatch):
    lines = [json.loads(each) for each in (run / "metrics.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in each.items() if k not in ("usage", "target_ppl", "pred_ppl")} for each in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in kept))
    labels = [axes.get_ylabel() for axes in drawn_overview(run, monkeypatch).axes]
    assert labels == ["loss (nats per target)", "masked accuracy", "phone frames accuracy", "pnmi"]


def test_a_run_without_probes_says_what_to_type(run):
    (run / "probes.jsonl").unlink()
    with pytest.raises(HarkError, match=r"probes.jsonl: holds nothing; probe it first: hark probe"):
        figure.overview(run, run / "out.png")
