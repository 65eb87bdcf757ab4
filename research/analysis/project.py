"""What W&B's server has of a project, as folders of runs in the user's cache folder.

It has configs, rows of metrics, commits, and the summary of what probes found last, of each representation its chosen
layer. It does not have costs, alarms, jobs and the diff of the working tree: these are not known of such runs, and
whether one failed is not told. A run whose last sign W&B still has as it was is not fetched again.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from rich.progress import track

from research import registry, runs
from research.analysis.digest import SPLITS
from research.analysis.reading import Line, flat
from research.data.cached import cached
from research.errors import HarkError
from research.files import write
from research.launch.sync import reachable

SEEN = "wandb.json"  # in a run's folder, once it is whole: what W&B said last
R = TypeVar("R")
DETAILS = ("low", "high", "layer", "step")  # keys of a summary beside the metric


def download(name: str) -> Path:
    """Bring a folder of the runs of ENTITY/PROJECT up to what the server has.

    HarkError without network or login, or when there is no such project, or no run of hark in it.
    """
    if name.count("/") != 1:
        raise HarkError(f"wandb:{name}: type wandb:ENTITY/PROJECT")
    reachable("read it on a machine with a network, or name a folder of runs")
    folder = cached("wandb", Path(name), "")
    found = asked(name, lambda: every(name))
    if not found:
        raise HarkError(f"wandb:{name}: has no run of hark; upload some: hark sync")
    for run in track(found, "asking W&B", transient=True):
        fetch(name, run, folder / run.id)
    for gone in {path.name for path in folder.iterdir()} - {run.id for run in found}:
        shutil.rmtree(folder / gone)
    return folder


def every(name: str) -> list[Any]:
    """All runs of hark in a project; tables of sweeps are none."""
    import wandb  # noqa: PLC0415  slow to import

    return [run for run in wandb.Api().runs(name, lazy=False) if "plugins" in run.config]


def asked(name: str, question: Callable[[], R]) -> R:
    """Ask the server; HarkError when it does not answer."""
    try:
        return question()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HarkError(
            f"wandb:{name}: cannot be read ({reason}); is it there, and yours to read?"
        ) from error


def fetch(name: str, run: Any, folder: Path) -> None:
    """Write one run's folder, unless it is there as W&B has it."""
    said = json.dumps([run.state, str(run.heartbeatAt), dict(run.summary_metrics)], sort_keys=True)
    if (folder / SEEN).exists() and (folder / SEEN).read_text() == said:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = dict(run.config)
    write(folder / "config.yaml", yaml.safe_dump(config))
    write(folder / "overrides.yaml", yaml.safe_dump(overrides(config)))
    write(folder / "code.json", json.dumps({"commit": run.commit or ""}))
    logged = list(rows(asked(name, lambda: list(run.scan_history()))))
    write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in logged))
    write(folder / "probes.jsonl", "".join(json.dumps(line) + "\n" for line in probes(run.summary_metrics)))
    if max((line["step"] for line in logged), default=0) >= config["train"]["steps"]:
        runs.finish(folder, config["train"]["steps"])
    write(folder / SEEN, said)


def overrides(config: dict[str, Any]) -> list[str]:
    """What a sweep typed for this run alone; of a run of no sweep, all that its config says."""
    tags = [tag for tag in config["log"]["tags"] if "=" in tag]
    settings = (
        dict(flat({key: value for key, value in config.items() if key != "plugins"})) | config["plugins"]
    )
    return tags or [f"{key}={value}" for key, value in settings.items()]


def rows(history: Iterable[dict[str, Any]]) -> Iterator[Line]:
    """Lines of metrics.jsonl out of the server's rows, one per split."""
    for row in history:
        splits: dict[str, Line] = defaultdict(dict)
        for key, value in row.items():
            split, _, name = key.partition("/")
            if split in (*SPLITS, "health"):
                splits[split][name] = float(value)  # "NaN", "Infinity"
        for split, values in splits.items():
            head = {"schema": runs.SCHEMA, "step": row["_step"], "split": split, "time": row.get("time")}
            yield head | values


def probes(summary: dict[str, Any]) -> Iterator[Line]:
    """Lines of probes.jsonl out of what the follower put into the summary: chosen layers, without their rates."""
    found: dict[tuple[str, str], Line] = defaultdict(dict)
    for key, value in summary.items():
        head, _, name = key.rpartition("/")
        if key.count("/") == 3 and head.startswith("probe/"):
            _, probe, side = head.split("/")
            line = found[probe, side]
            line |= {name: value} if name in DETAILS else {"metric": name, "mean": float(value)}
    for (probe, side), line in found.items():
        known = {
            "schema": runs.SCHEMA,
            "kind": "score",
            "probe": probe,
            "representation": side,
            "headline": True,
        }
        yield known | {"chosen": "layer" in line, "period": None, "falls": falls(probe)} | line


def falls(probe: str) -> bool:
    """Whether less is better, where such a probe is known here."""
    registry.load_plugins()
    known = probe in registry.names("probe")
    return known and bool(getattr(registry.find("probe", probe), "falls", False))
