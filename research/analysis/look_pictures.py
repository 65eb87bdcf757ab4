"""Pictures of what `look`, `look_layers` and `look_phones` find."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from research import registry
from research.analysis import style
from research.analysis.look import Heard, Hearing
from research.contracts import Seq
from research.errors import HarkError

if TYPE_CHECKING:
    from IPython.display import Audio


def listen(samples: Tensor, rate: int) -> "Audio":
    """A player for a notebook; as loud as the signal is, but for what would clip."""
    from IPython.display import Audio  # noqa: PLC0415  there only where notebooks are

    return Audio((samples / samples.abs().max().clamp(min=1)).numpy(), rate=rate, normalize=False)


def log_mel(samples: Tensor, rate: int) -> Tensor:
    """Log-mel energies, not normalised: (N,) -> (S, F)."""
    frontend = registry.build(replace(registry.config_of("frontend", "log_mel_raw"), sample_rate=rate))
    with torch.no_grad():
        x: Tensor = frontend.eval()(Seq(samples[None], torch.tensor([len(samples)]))).x[0]
    return x


@style.styled
def masked_spectrogram(heard: Heard) -> Figure:
    """The clean utterance above what the student heard, with the masked frames hatched: log-mel, whatever the frontend.

    Where whole channels are hidden as well (`masking=channel`), that is not shown.
    """
    figure, panels = style.panels(2, 1, style.TWO_COLUMNS, 1.7, sharex=True)
    seconds = len(heard.clean) / heard.rate
    energies = [log_mel(x, heard.rate) for x in (heard.clean, heard.noisy)]  # (S, F)
    low, high = np.percentile(torch.cat(energies).numpy(), [2, 99.8])
    share = float(heard.masked.float().mean())
    titles = [
        "clean",
        f"{'augmented' if heard.changed else 'not augmented'}, {share:.0%} of the frames masked",
    ]
    for axes, energy, title in zip(panels, energies, titles, strict=True):
        extent = (0.0, seconds, 0.0, float(energy.size(1)))
        image = axes.imshow(
            energy.T.numpy(),
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=low,
            vmax=high,
            cmap="cividis",
        )
        axes.set_title(title, loc="left")
        axes.set_ylabel("mel channel")
        axes.grid(visible=False)
        axes.set_xlim(0, seconds)
    hatch(panels[1], heard)
    panels[1].set_xlabel("time (s)")
    figure.colorbar(image, ax=panels, label="energy (ln)", pad=0.01)
    return figure


def hatch(axes: Axes, heard: Heard) -> None:
    """Cover the masked stretches."""
    edges = np.flatnonzero(np.diff(heard.masked.numpy().astype(int), prepend=0, append=0))
    end = len(heard.clean) / heard.rate
    for begin, stop in edges.reshape(-1, 2) * heard.period:
        axes.axvspan(begin, min(stop, end), facecolor="0.85", edgecolor="0.5", hatch="////", lw=0)


def code_shares(hearing: Hearing) -> pd.DataFrame:
    """Codes from common to rare: the share of targets and of predictions that each has, averaged over books.

    HarkError: the method has no codes.
    """
    if hearing.targets.numel() == 0:
        raise HarkError("this method has no codes to look at; open a run with a quantizer")
    shares = {"targets": hearing.targets, "predictions": hearing.predictions}
    counts = {name: counted(ids, hearing.codes) for name, ids in shares.items() if ids.numel()}
    order = np.argsort(-counts["targets"], axis=1, kind="stable")  # (G, V)
    table = {name: np.take_along_axis(count, order, 1).mean(0) for name, count in counts.items()}
    return pd.DataFrame(table, index=pd.RangeIndex(1, hearing.codes + 1, name="rank"))


def counted(ids: Tensor, codes: int) -> Any:
    """Share of each code in each book: (M, G) -> (G, V)."""
    return np.stack([np.bincount(book, minlength=codes) / len(book) for book in ids.T.numpy()])


@style.styled
def codes(hearing: Hearing) -> Figure:
    """How often each code is the target and the prediction; a head that knows nothing says the commonest ones."""
    shares = code_shares(hearing)
    figure, (axes,) = style.panels(1, 1, style.TWO_COLUMNS, 2.2)
    drawn: dict[str, Any] = {}
    for index, (name, share) in enumerate(shares.items()):
        looks = style.look(index) | {"markevery": max(1, len(share) // 16)}
        (drawn[str(name)],) = axes.plot(share.index, share, **looks)
    drawn["all codes alike"] = axes.axhline(1 / len(shares), color=style.GREY, lw=1)
    axes.set_xlabel("code, from the commonest target to the rarest (rank)")
    axes.set_xlim(0.5, len(shares) + 0.5)
    axes.set_ylabel("share (mean over books)")
    axes.set_ylim(0)
    style.legend(figure, drawn)
    return figure


@style.styled
def similarity(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Tables of `look_layers.similarities` side by side; titles say of what the columns are."""
    figure, panels = style.panels(1, len(tables), 3.2 * len(tables), 2.9)
    for axes, (title, table) in zip(panels, tables.items(), strict=True):
        image = axes.imshow(table, vmin=0, vmax=1, cmap="cividis", origin="lower")
        for (row, column), value in np.ndenumerate(table.to_numpy()):
            color = "black" if value > 0.6 else "white"
            if len(table) <= 8:  # more have no room for numbers
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=color, fontsize=7)
        axes.set_xlabel(f"layer, {title}")
        axes.set_ylabel("layer, after training")
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.colorbar(image, ax=panels, label="linear CKA")
    return figure


@style.styled
def ranks(found: Mapping[str, pd.Series]) -> Figure:
    """RankMe by layer of several models."""
    figure, (axes,) = style.panels(1, 1, style.ONE_COLUMN, 2.2)
    drawn = {
        name: axes.plot(rank.index, rank, **style.look(index))[0]
        for index, (name, rank) in enumerate(found.items())
    }
    axes.set_xlabel("layer")
    axes.set_ylabel("effective rank (directions)")
    axes.set_ylim(0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.legend(figure, drawn)
    return figure


@style.styled
def agreement(found: Mapping[str, pd.DataFrame], level: pd.Series) -> Figure:
    """Tables of `look_phones.agreement` by layer, and the row of a representation without layers as a level."""
    figure, (axes,) = style.panels(1, 1, style.ONE_COLUMN, 2.2)
    drawn: dict[str, Any] = {}
    for index, (name, table) in enumerate(found.items()):
        bars = (table["mean"] - table["low"], table["high"] - table["mean"])
        at = table.index.to_numpy(dtype=float) + 0.08 * (index - (len(found) - 1) / 2)  # bars do not meet
        drawn[name] = axes.errorbar(at, table["mean"], bars, **style.look(index))
    drawn[f"{level.name}"] = axes.axhline(level["mean"], color=style.GREY, lw=1.3, ls="-.")
    drawn["chance"] = axes.axhline(level["chance"], color=style.GREY, lw=1, ls=":")
    axes.set_xlabel("layer")
    axes.set_ylabel("nearest segment is\nthe same phone (share)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(0)
    style.legend(figure, drawn)
    return figure


@style.styled
def scatter(maps: Mapping[str, pd.DataFrame]) -> Figure:
    """Maps of `look_phones.tsne` side by side, a colour and a marker for each phone."""
    figure, panels = style.panels(1, len(maps), 3.2 * len(maps), 2.9)
    phones = sorted({phone for table in maps.values() for phone in table["phone"]})
    drawn: dict[str, Any] = {}
    for axes, (title, table) in zip(panels, maps.items(), strict=True):
        for index, phone in enumerate(phones):
            mine, looks = table[table["phone"] == phone], style.look(index)
            drawn[phone] = axes.scatter(
                mine["x"], mine["y"], s=12, color=looks["color"], marker=looks["marker"], lw=0, alpha=0.8
            )
        axes.set_title(title, loc="left")
        axes.set_xlabel("t-SNE 1 (no unit)")
        axes.set_ylabel("t-SNE 2 (no unit)")
        axes.set_xticks([])
        axes.set_yticks([])
    style.legend(figure, drawn, title="phone")
    return figure
