"""Pictures of a finished experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from research.classification.answers import Record
from research.classification.answers import confusion as shares
from research.classification.data import Corpus

WRITTEN = 40  # labels, more of which are not written at an axis


def confusion(path: Path, corpus: Corpus, by_name: Mapping[str, Sequence[Record]]) -> None:
    """Draw who is taken for whom, one square per representation."""
    names = corpus.vocabulary.names
    side = min(10.0, 2.5 + 0.28 * len(names))
    figure = Figure(figsize=(side * len(by_name), side + 0.6), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(by_name), squeeze=False)[0]
    for ax, (title, records) in zip(axes, by_name.items(), strict=True):
        image = ax.imshow(shares(corpus, records).numpy(), vmin=0, vmax=1, cmap="magma_r")
        ax.set(title=title, xlabel="answered")
        ticks = range(len(names)) if len(names) <= WRITTEN else []
        ax.set_xticks(ticks, [names[i] for i in ticks], rotation=90)
        ax.set_yticks(ticks, [names[i] for i in ticks] if ax is axes[0] else [])
    axes[0].set_ylabel(corpus.vocabulary.key)
    figure.colorbar(image, ax=axes, label="share of the label's test utterances", shrink=0.8)
    figure.savefig(path, dpi=120)


def layer_weights(path: Path, by_name: Mapping[str, Sequence[Record]]) -> None:
    """Draw the learned weight of every layer, one line per seed."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    ax = figure.subplots()
    for number, (name, records) in enumerate(by_name.items()):
        for k, record in enumerate(records):
            if record.weights is not None and len(record.weights) > 1:
                label = name if k == 0 else None
                ax.plot(record.layers, record.weights, marker="o", alpha=0.7, color=f"C{number}", label=label)
    ax.set(
        xlabel="layer",
        ylabel="weight",
        title="a line per seed; large does not mean important",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if ax.lines:
        ax.legend()
    figure.savefig(path, dpi=120)
