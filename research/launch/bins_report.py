"""What `hark bins` does: find bounds, weigh both strategies, write the file and a picture."""

import argparse
import shlex
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

from research.config import Data, Streams
from research.data import bins
from research.data.bins import Floats, Histogram, Ints
from research.data.plan import Plan, by_budget
from research.data.streams.batches import limits
from research.files import write
from research.launch.bins_input import Heard, data_of, hear


class Bins(NamedTuple):
    """Buckets of one strategy, and what they cost."""

    bounds: Floats  # (K,) s
    sizes: Ints  # (K,) rows per batch
    to_bound: float  # padding, as a share, where every utterance fills up its bound
    batched: float  # where batches are as long as their longest


def make_bins(args: argparse.Namespace) -> int:
    data = data_of(args.inputs)
    typed = {"buckets", "batch_seconds", "min_seconds", "max_seconds"}
    data = replace(
        data, **{key: value for key, value in vars(args).items() if key in typed and value is not None}
    )
    heard = hear(data)
    cells = bins.histogram(heard.parts)
    bounds = {
        "padding": bins.least_padding(cells, data.buckets),
        "equal": bins.equal(cells.longest, cells.seconds, data.buckets),
    }
    epoch = bins.epoch(heard.parts)
    found = {name: judge(np.array(bins.written(bound)), cells, epoch, data) for name, bound in bounds.items()}
    chosen = found[args.strategy]
    console = Console(highlight=False, soft_wrap=True)
    console.print(facts(heard, cells), strategies(found, data), buckets(chosen, cells, data))
    save(args, data, heard, cells, chosen)
    picture = draw(args.out.with_suffix(".png"), cells, found)
    console.print(
        f"{args.out}: {len(chosen.bounds)} buckets, drawn in {picture}; train with data.bins={args.out}"
    )
    return 0


def judge(bounds: Floats, cells: Histogram, epoch: Floats, data: Data) -> Bins:
    cfg = replace(data, bounds=bounds.tolist(), sizes=[])
    _, sizes = limits(epoch, cfg) if isinstance(cfg, Streams) else by_budget(epoch, cfg)
    return Bins(bounds, sizes, bins.padding(cells, bounds), Plan(epoch, bounds, sizes).padding())


def facts(heard: Heard, cells: Histogram) -> Table:
    shortest = min(part.durations.min() for part in heard.parts if len(part.durations))
    table = Table("data", "", show_header=False)
    table.add_row("utterances of an epoch", f"{cells.counts.sum():,.0f}")
    table.add_row("hours", f"{cells.seconds.sum() / 3600:,.2f}")
    table.add_row("durations", f"{shortest:.2f} to {cells.longest[-1]:.2f} s")
    for reason, count in heard.left_out.items():
        table.add_row(f"left out: {reason}", f"{count:,}")
    return table


def strategies(found: dict[str, Bins], data: Data) -> Table:
    table = Table("strategy", "buckets", "padding to bounds", f"in batches of {data.batch_seconds:g} s")
    for name, one in found.items():
        table.add_row(name, f"{len(one.bounds)}", f"{one.to_bound:.2%}", f"{one.batched:.2%}")
    return table


def buckets(one: Bins, cells: Histogram, data: Data) -> Table:
    place, size = np.searchsorted(one.bounds, cells.longest), len(one.bounds)
    counts = np.bincount(place, cells.counts, size)
    hours = np.bincount(place, cells.seconds, size) / 3600
    table = Table("up to (s)", "utterances", "hours", f"rows in {data.batch_seconds:g} s")
    for column in table.columns:
        column.justify = "right"
    for bound, count, audio, rows in zip(one.bounds, counts, hours, one.sizes, strict=True):
        table.add_row(f"{bound:.3f}", f"{count:,.0f}", f"{audio:,.2f}", f"{rows}")
    return table


def save(args: argparse.Namespace, data: Data, heard: Heard, cells: Histogram, one: Bins) -> None:
    """Write what `data.bins=` reads; sizes only when a budget was typed, so that else the run's own counts."""
    typed = {key: getattr(args, key) for key in ("buckets", "batch_seconds", "min_seconds", "max_seconds")}
    words = [f"--{key.replace('_', '-')}={value:g}" for key, value in typed.items() if value is not None]
    words += [f"--strategy={args.strategy}", f"--out={args.out}"]
    made: dict[str, Any] = {
        "command": shlex.join(["hark", "bins", *args.inputs, *words]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": data.train,
        "strategy": args.strategy,
        "utterances": round(float(cells.counts.sum())),
        "hours": round(float(cells.seconds.sum()) / 3600, 3),
        "left_out": heard.left_out,
        "batch_seconds": data.batch_seconds,
        "padding": {"to_bounds": round(one.to_bound, 4), "batched": round(one.batched, 4)},
    }
    sizes = {"sizes": one.sizes.tolist()} if args.batch_seconds else {}
    text = yaml.safe_dump({"bounds": one.bounds.tolist(), **sizes, "made": made}, sort_keys=False, width=110)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, text)


def draw(out: Path, cells: Histogram, found: dict[str, Bins]) -> Path:
    """A panel per strategy: how much audio there is of each duration, and where its bounds lie."""
    from matplotlib.figure import Figure  # noqa: PLC0415  takes a second

    figure = Figure(figsize=(9, 6), layout="constrained")
    panels = figure.subplots(len(found), sharex=True)
    for axes, (name, one) in zip(panels, found.items(), strict=True):
        axes.hist(cells.longest, bins=200, weights=cells.seconds / 3600, color="#0072B2", label="audio")
        for bound in one.bounds:
            axes.axvline(bound, color="#D55E00", lw=0.8, label="bounds" if bound == one.bounds[-1] else None)
        cost = f"{one.to_bound:.2%} padding to bounds, {one.batched:.2%} in batches"
        axes.set_title(f"{name}: {len(one.bounds)} buckets, {cost}", loc="left", fontsize="medium")
        axes.set_ylabel(f"audio (h per {cells.longest[-1] / 200:.2g} s)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    panels[-1].set_xlabel("duration (s)")
    part = out.with_name(out.name + ".part")
    figure.savefig(part, format="png", dpi=150)
    return part.replace(out)
