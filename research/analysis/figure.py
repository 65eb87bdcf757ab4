"""One picture of a run: how it trained, and what its layers know."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from research.analysis.runs import metrics, probes
from research.analysis.style import BLUE, GREEN, PURPLE, VERMILION
from research.evaluation.records import PRETRAINED, RANDOM, WEIGHTED

CURVES = {  # axis label -> metrics that it shows
    "loss (nats per target)": {"loss": ""},
    "masked accuracy": {"acc": ""},
    "codes in use (share of codebook)": {"usage": ""},
    "perplexity (codes)": {"target_ppl": "targets", "pred_ppl": "predictions"},
}
COLUMNS = 3


def overview(run: Path, out: Path) -> Path:
    """Draw metrics.jsonl, and the newest step of probes.jsonl, as one PNG; HarkError when either says nothing."""
    logged, found = metrics(run), probes(run)
    found = found[found["step"] == found["step"].max()]
    curves = {label: names for label, names in CURVES.items() if set(names) & set(logged)}
    asked = list(dict.fromkeys(found["probe"]))
    rows = -(-(len(curves) + len(asked)) // COLUMNS)
    spaced = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)  # inches
    figure = Figure(figsize=(4.6 * COLUMNS, 3.7 * rows), layout=spaced)
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for (label, names), axes in zip(curves.items(), panels, strict=False):
        draw_curves(axes, logged, label, names)
    for name, axes in zip(asked, panels[len(curves) :], strict=False):
        draw_layers(axes, found[found["probe"] == name])
    for axes in panels[len(curves) + len(asked) :]:
        axes.remove()
    title = f"{run.name}, probed after step {found['step'].iloc[0]:,}; bars and bands are 95% intervals"
    figure.suptitle(title, fontsize="medium")
    part = out.with_name(out.name + ".part")
    figure.savefig(part, format="png", dpi=150)
    return part.replace(out)


def draw_curves(axes: Axes, logged: pd.DataFrame, label: str, names: dict[str, str]) -> None:
    """Metrics over steps: a line for training, dots for validation."""
    for (name, what), color in zip(names.items(), (BLUE, VERMILION), strict=False):
        train = logged[(logged["split"] == "train") & logged[name].notna()]
        valid = logged[(logged["split"] == "valid") & logged[name].notna()]
        axes.plot(train["step"], train[name], color=color, label=f"{what} train".strip())
        axes.plot(valid["step"], valid[name], "o--", color=color, mfc="white", label=f"{what} valid".strip())
    if len(names) > 1:  # targets and predictions can lie far apart
        axes.set_yscale("log")
    finish(axes, "step", label)


def draw_layers(axes: Axes, found: pd.DataFrame) -> None:
    """One probe's headline by layer, with its intervals; baselines, and weighted sums of layers, are levels."""
    scores = found[(found["kind"] == "score") & (found["headline"] == True)]  # noqa: E712  the column holds NaN too
    sides = (
        (PRETRAINED, BLUE, "o-", -0.06),
        (RANDOM, VERMILION, "s--", 0.06),
    )  # apart, so that bars do not meet
    for name, color, style, aside in sides:
        mine = scores[scores["representation"] == name].sort_values("layer")
        bars = (mine["mean"] - mine["low"], mine["high"] - mine["mean"])
        label = f"{name.replace('_', '-')} encoder"
        axes.errorbar(
            mine["layer"] + aside, mine["mean"], bars, fmt=style, color=color, capsize=3, label=label
        )
    for name, (_, color, _, _) in zip((WEIGHTED, f"{RANDOM}_{WEIGHTED}"), sides, strict=True):
        for mean in scores[scores["representation"] == name]["mean"]:
            axes.axhline(mean, color=color, ls=(0, (1, 3)), label=name.replace("_", " "))
    levels = scores[scores["layer"].isna() & ~scores["representation"].str.endswith(WEIGHTED)]
    levels = levels.sort_values("period").drop_duplicates(
        "representation", keep="last"
    )  # at the encoder's rate
    for (_, line), color, style in zip(levels.iterrows(), (GREEN, PURPLE), ("-.", ":"), strict=False):
        axes.axhspan(line["low"], line["high"], color=color, alpha=0.15, lw=0)
        label = f"{line['representation']}, {line['period'] * 1e3:g} ms"
        axes.axhline(line["mean"], color=color, ls=style, lw=2, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    some = scores.iloc[0]
    title = some["probe"] if some["probe"] == some["metric"] else f"{some['probe']} {some['metric']}"
    finish(axes, "layer", title.replace("_", " "))


def finish(axes: Axes, x: str, y: str) -> None:
    """Label, and put the legend above the panel, where no data can be."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small")
