"""One W&B run for a sweep: a table of its cells."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from research import runs
from research.files import write
from research.launch.sweep.rows import Row, rows, totals
from research.launch.sweep.submit import backends
from research.training.sent import sent

LAST = "table.json"  # in SWEEP/wandb: what was written last

Cells = Mapping[Path, dict[str, str]]  # run folder -> what tells it from the others


def write_table(sweep: Path, cells: Cells, project: str) -> None:
    """Write how the cells stand into W&B's run of the sweep, without a network, unless nothing has changed."""
    import wandb  # noqa: PLC0415  slow to import

    found = rows(dict(cells), backends(sweep.parents[1]), lenient=True)
    lines = [line(row) for row in found]
    summary = {f"cells/{standing}": count for standing, count in totals(found).items()}
    said = json.dumps({"lines": lines, "summary": summary})
    folder = sweep / "wandb"
    folder.mkdir(exist_ok=True)
    with runs.only_one(folder):
        if (folder / LAST).exists() and (folder / LAST).read_text() == said:
            return
        run = wandb.init(
            project=project,
            group=sweep.name,
            job_type="sweep",
            name=sweep.name,
            id=sweep.name,
            resume="allow",
            mode="offline",
            dir=str(sweep),
            settings=wandb.Settings(
                silent=True, console="off", x_disable_stats=True, x_save_requirements=False
            ),
        )
        columns: list[str | int] = list(dict.fromkeys(name for values in lines for name in values))
        data: list[Iterable[Any]] = [[values.get(str(name)) for name in columns] for values in lines]
        run.log({"cells": wandb.Table(columns, data)}, step=sent(sweep).step + 1)
        run.summary.update(summary)
        run.finish()
        write(folder / LAST, said)


def line(row: Row) -> dict[str, Any]:
    """One row of the table; what is not known yet is left out."""
    how = row.progress
    values: dict[str, Any] = {"run": row.run.name, **row.differs, "state": row.standing.value}
    values |= {
        "step": how.step,
        "train loss": how.loss,
        "valid loss": how.valid_loss,
        "best valid loss": best(row.run),
    }
    for score in how.scores:
        name = f"probe {score.probe}"
        values |= {name: score.mean, f"{name} low": score.low, f"{name} high": score.high}
    return values


def best(run: Path) -> float | None:
    """The lowest validation loss so far."""
    losses = [r["loss"] for r in runs.read_jsonl(run / "metrics.jsonl") if r["split"] == "valid"]
    return min(losses, default=None)
