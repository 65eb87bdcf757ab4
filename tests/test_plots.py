"""Figures: what is drawn where, what axes and legends say, and that nothing stands on anything else."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy.stats import ttest_1samp

from research.analysis import plots, style
from research.analysis.effects import effects
from research.analysis.labels import axis, level
from research.analysis.seeds import groups, per_seed
from research.analysis.speed import to_reach
from research.errors import HarkError
from tests.charted import PROBE, ablation

CODES, MASK = "quantizer.codes", "masking.prob"
SCORE = f"probe/{PROBE}/pretrained"
LONG = ("a codebook that somebody named at great length for lack of a better word", "no_space_" * 9, "c")
SIZES = {
    "four": ({CODES: [64, 256], MASK: [0.2, 0.4]}, 3),
    "twelve": ({CODES: [64, 128, 256, 512], MASK: [0.2, 0.4, 0.6]}, 2),
    "one run": ({CODES: [64]}, 1),
    "one seed": ({CODES: [64, 256]}, 1),
    "long names": ({"quantizer.codes_of_the_teacher": list(LONG)}, 2),
}
DRAWN = {
    "curves": lambda frame, **how: plots.curves(frame, "acc", **how),
    "layers": lambda frame, **how: plots.layers(frame, PROBE, **how),
    "pareto": lambda frame, **how: plots.pareto(frame, SCORE, **how),
    "speed": lambda frame, **how: plots.speed(to_reach(frame, "acc", 0.41), **how),
    "effects": lambda frame, **how: plots.effects(effects(frame, SCORE), **how),
}


def gains(cell):
    return 0.1 * (cell.get(CODES) == 256) + 0.05 * (cell.get(MASK) == 0.4)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return {name: ablation(root / name, *size, effect=gains) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def four(frames):
    return frames["four"]


def broken(frame):
    """The same runs, of which one is not done, and one has no score."""
    frame = frame.copy()
    frame.loc[0, "state"] = "failed"
    frame.loc[4, SCORE] = np.nan
    return frame


def boxes(figure):
    """Where each word, legend and panel is, in pixels."""
    figure.draw_without_rendering()
    words = []
    for axes in figure.axes:
        for where in [axes, *axes.child_axes]:
            words += [tick.label1 for axis in (where.xaxis, where.yaxis) for tick in axis._update_ticks()]
            words += [tick.label2 for tick in where.yaxis._update_ticks()]
            words += [where.xaxis.label, where.yaxis.label, where._left_title]
    words += [figure._supxlabel, figure._supylabel]
    shown = [word for word in words if word is not None and word.get_visible() and word.get_text()]
    return [(word.get_text(), word.get_window_extent()) for word in shown], [a.bbox for a in figure.axes]


def noted(figure):
    return figure._supxlabel.get_text().replace("\n", " ")


def overlap(one, other):
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > 1 and high > 1


def sound(figure):
    """Nothing is cut off, no two words meet, none is in a panel."""
    words, panels = boxes(figure)
    legends = [("legend", each.get_window_extent()) for each in figure.legends]
    for index, (text, box) in enumerate(words + legends):
        inside = figure.bbox.padded(2)
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1, (text, "is cut off")  # noqa: PT018
        assert inside.y0 <= box.y0 and box.y1 <= inside.y1, (text, "is cut off")  # noqa: PT018
        assert not any(overlap(box, panel) for panel in panels), (text, "is in a panel")
        for other, theirs in (words + legends)[:index]:
            assert not overlap(box, theirs), (text, other)
    for axes in figure.axes:
        assert axes.bbox.width > 0.1 * figure.bbox.width
        assert axes.bbox.height > 0.3 * figure.dpi


PAIRS = [(kind, size) for kind in DRAWN for size in SIZES if (kind, size) != ("effects", "one run")]


@pytest.mark.parametrize(("kind", "size"), PAIRS)
def test_nothing_stands_on_anything_else(frames, kind, size):
    width = style.ONE_COLUMN if size in {"four", "one seed"} else style.TWO_COLUMNS
    figure = DRAWN[kind](frames[size], width=width)
    assert figure.get_size_inches()[0] == width
    sound(figure)
    assert all(a.get_xlabel() or not any(t.get_visible() for t in a.get_xticklabels()) for a in figure.axes)
    assert (
        min(text.get_fontsize() for text in figure.findobj(lambda a: hasattr(a, "get_fontsize")))
        >= style.SMALL
    )


@pytest.mark.parametrize("kind", DRAWN)
def test_runs_that_failed_and_numbers_that_miss_are_drawn_around(four, kind):
    figure = DRAWN[kind](broken(four))
    sound(figure)
    said = noted(figure)
    assert {"curves": "1 unfinished", "pareto": "Left out: 2", "effects": "left out"}.get(kind, "") in said


def test_a_curve_is_the_mean_of_its_seeds_in_students_band(four):
    figure = plots.curves(four, "acc")
    (axes,) = figure.axes
    first = four[(four[CODES] == 64) & (four[MASK] == 0.2)]
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert thick[0].get_ydata()[-1] == pytest.approx(first["valid/acc"].mean())
    low, high = ttest_1samp(first["valid/acc"], 0).confidence_interval(0.95)
    band = axes.collections[0].get_datalim(axes.transData)
    ends = axes.collections[0].get_paths()[0].vertices
    assert (band.x0, band.x1) == (10, 100)
    last = ends[ends[:, 0] == 100][:, 1]
    assert (last.min(), last.max()) == pytest.approx((low, high))
    assert len([line for line in axes.lines if line.get_linewidth() < 1]) == len(four)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [f"codes {c}, prob {p}" for c in (64, 256) for p in (0.2, 0.4)]
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "step (updates)", "training masked accuracy (share of targets)",
    )  # fmt: skip


def test_a_curve_by_one_factor_averages_each_seed_over_the_others(four):
    (axes,) = plots.curves(four, "acc", CODES).axes
    thick = [line.get_ydata()[-1] for line in axes.lines if line.get_linewidth() > 1]
    assert thick == pytest.approx(four.groupby(CODES)["valid/acc"].mean().tolist())
    table = per_seed(four[four[CODES] == 64], "valid/acc")
    assert table.iloc[0].tolist() == pytest.approx(
        four[four[CODES] == 64].groupby("seed")["valid/acc"].mean()
    )


def test_an_unfinished_run_is_dotted_and_in_no_mean(four):
    (axes,) = plots.curves(broken(four), "acc", MASK).axes
    assert sum(line.get_linestyle() == ":" for line in axes.lines) >= 1
    thick = [line.get_ydata()[-1] for line in axes.lines if line.get_linewidth() > 1]
    kept = four[(four["seed"] != 0) & (four[MASK] == 0.2)]  # seed 0 lacks a setting
    assert thick[0] == pytest.approx(kept["valid/acc"].mean())


def test_many_configurations_get_a_panel_each(frames):
    figure = plots.curves(frames["twelve"], "acc")
    assert len(figure.axes) == 12
    assert not figure.legends
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[:2] == ["codes 64, prob 0.2", "codes 64, prob 0.4"]
    assert all(len(axes.lines) == 12 + 2 + 1 for axes in figure.axes)  # all means, two seeds, its own


def test_audio_hours_are_an_x_axis_too(four):
    (axes,) = plots.curves(four, "acc", x="audio_h").axes
    assert axes.get_xlabel() == "audio heard (hours)"
    assert axes.lines[-1].get_xdata()[-1] == pytest.approx(4.0)


def test_layers_are_beside_random_init_and_baselines(four):
    figure = plots.layers(four, PROBE)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["pretrained encoder", "random-init encoder", "log-mel, 10 ms", "log-mel, 40 ms"]
    ours, theirs = figure.axes[0].containers
    cell = four[(four[CODES] == 64) & (four[MASK] == 0.2)]
    assert ours.lines[0].get_ydata() == pytest.approx(cell[SCORE].mean() + np.arange(3) / 20)
    assert theirs.lines[0].get_ydata() == pytest.approx([0.4, 0.45, 0.5])
    low, high = ttest_1samp(cell[SCORE], 0).confidence_interval(0.95)
    (bars,) = ours.lines[2]
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([low, high])


def test_one_run_has_the_interval_of_its_probe(frames):
    figure = plots.layers(frames["one run"], PROBE)
    (bars,) = figure.axes[0].containers[0].lines[2]
    mean = frames["one run"][SCORE][0]
    assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([mean - 0.02, mean + 0.03])
    assert "One run each" in noted(figure)


def test_the_forest_tells_the_verdict_of_each_row(four):
    table = effects(four, SCORE)
    figure = plots.effects(table)
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() != "None"]
    assert [line.get_xdata()[0] for line in points] == pytest.approx(table["difference"].tolist())
    spans = [
        line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 1.5
    ]
    assert np.array(spans[: len(table)]) == pytest.approx(table[["low", "high"]].to_numpy())
    (words,) = axes.child_axes
    for told, (_, row) in zip(words.get_yticklabels(), table.iterrows(), strict=True):
        assert told.get_text().replace("\n", " ") == f"{row['verdict']}, {row['seeds']} seeds"
    assert "higher is better" in axes.get_xlabel()


def test_a_forest_is_of_one_metric(four):
    table = effects(four, SCORE)
    with pytest.raises(HarkError, match="metrics a, b: draw one"):
        plots.effects(table.assign(metric=["a", "b"]))


def test_crossed_means_keep_their_seeds(four):
    figure = plots.interaction(four, "valid/acc", CODES, MASK)
    (axes,) = figure.axes
    for container, (_, part) in zip(axes.containers, four.groupby(MASK), strict=True):
        assert container.lines[0].get_ydata() == pytest.approx(
            part.groupby(CODES)["valid/acc"].mean().tolist()
        )
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "_") >= len(four)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["64", "256"]
    sound(figure)
    with pytest.raises(HarkError, match=r"quantizer.code: is no factor; did you mean"):
        plots.interaction(four, "valid/acc", "quantizer.code", MASK)


def test_words_at_the_x_axis_are_slanted_before_they_meet(frames):
    frame = frames["long names"].assign(**{MASK: 0.2})
    frame.attrs = frame.attrs | {"factors": ["quantizer.codes_of_the_teacher", MASK]}
    figure = plots.interaction(frame, "valid/acc", "quantizer.codes_of_the_teacher", MASK)
    figure.draw_without_rendering()
    assert figure.axes[0].get_xticklabels()[0].get_rotation() == 30


def test_the_front_is_filled_and_joined(four):
    figure = plots.pareto(four, SCORE)
    (axes,) = figure.axes
    hollow = [container.lines[0].get_markerfacecolor() == "white" for container in axes.containers]
    (joined,) = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    assert len(joined.get_xdata()) == len(hollow) - sum(hollow)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert all("%)" in name for name in names[:-1])
    assert names[-1] == "front"


def test_who_never_got_there_is_told(four):
    figure = plots.speed(to_reach(four, "acc", 0.45))
    (words,) = figure.axes[-1].child_axes
    assert [label.get_text() for label in words.get_yticklabels()].count("3 of 3 never") == 1
    assert "No mean where a run did not get there" in noted(figure)
    nobody = plots.speed(to_reach(four, "acc", 2.0))
    assert not nobody.legends
    sound(nobody)


def test_looks_differ_in_colour_and_without_it():
    grey = [(look["linestyle"], look["marker"]) for look in map(style.look, range(40))]
    assert len(set(grey)) == 40
    for one, other in zip(map(style.look, range(40)), map(style.look, range(1, 41)), strict=False):
        assert all(one[key] != other[key] for key in one)
    light = [np.dot(to_rgb(color), (0.299, 0.587, 0.114)) for color in style.COLORS]
    assert max(light) < 0.75  # on white paper


def test_a_figure_is_saved_whole_and_fit_for_print(four, tmp_path):
    figure = plots.interaction(four, "valid/acc", CODES, MASK)
    _, wide, _ = imread(plots.save(figure, tmp_path / "a.png")).shape
    assert wide == round(300 * style.ONE_COLUMN)
    assert plots.save(figure, tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(HarkError, match=r"a.doc: no figure is written as .doc"):
        plots.save(figure, tmp_path / "a.doc")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.pdf", "a.png"]
    assert isinstance(figure, Figure)


def test_the_callers_style_is_left_alone(four):
    from matplotlib import rcParams

    before = dict(rcParams)
    plots.interaction(four, "valid/acc", CODES, MASK)
    assert dict(rcParams) == before


def test_words_for_axes():
    assert axis("valid/loss") == "validation loss (per target)"
    assert axis("loss", "train") == "training loss (per target)"
    assert axis("train/odd_one") == "training odd one"
    assert axis("probe/phone_frames/gain").startswith("phone frames: gain over random-init")
    assert level({"quantizer.codes": 64}) == "64"
    assert level({"teacher.prob": 0.1, "masking.prob": np.nan}) == "teacher.prob 0.1, masking.prob default"


def test_parts_differ_in_nothing_else(four):
    lacking = four[~((four[CODES] == 64) & (four[MASK] == 0.2))]
    lacking.attrs = four.attrs
    parts = groups(lacking, CODES)
    assert all(part[MASK].unique().tolist() == [0.4] for part in parts.values())
    apart = four[(four[CODES] == 64) == (four[MASK] == 0.2)]
    apart.attrs = four.attrs
    with pytest.raises(HarkError, match=r"nothing else is equal; name masking.prob too"):
        groups(apart, CODES)
