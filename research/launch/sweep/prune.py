"""Median pruning: a run that is worse than most others were at its step is stopped after a validation.

Whatever it needs is in the folders of the runs; Optuna's MedianPruner (arXiv 1907.10902) judges it.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from research import runs
from research.files import write
from research.launch.sweep.recipe import Prune, Search
from research.launch.sweep.score import series

FILE = "search.json"  # in a sweep's folder: what its jobs have to know of the search
FIRST = 5  # runs that have to be done before any is judged


def tell_jobs(folder: Path, search: Search, names: list[str]) -> None:
    """Write down what is searched for, and the run folders so far."""
    told = {"metric": search.metric, "direction": search.direction.value, "prune": search.prune.value}
    write(folder / FILE, json.dumps(told | {"warmup": search.warmup, "runs": names}, indent=1))


def pruner(folder: Path, run: Path) -> "Pruner | None":
    """Give what a job of the sweep in `folder` has to ask after each validation; None when it need not."""
    file = folder / FILE
    if not file.exists() or json.loads(file.read_text())["prune"] == Prune.none.value:
        return None
    return Pruner(folder, run)


@dataclass(frozen=True)
class Pruner:
    folder: Path
    run: Path

    def __call__(self, step: int, values: dict[str, float]) -> bool:
        """Whether the run should end: `values` were just measured, after `step` steps."""
        import optuna  # noqa: PLC0415  most jobs are no search's

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        told = json.loads((self.folder / FILE).read_text())  # other runs may have come meanwhile
        metric, name = told["metric"], told["metric"].partition("/")[2]
        pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST, n_warmup_steps=told["warmup"])
        study = optuna.create_study(direction=told["direction"], pruner=pruner)
        others = [self.run.with_name(other) for other in told["runs"] if other != self.run.name]
        for found in (series(other, metric) for other in others if runs.finished(other)):
            last = found[max(found)] if found else math.nan
            if math.isfinite(last):
                study.add_trial(optuna.trial.create_trial(value=last, intermediate_values=found))
        trial = study.ask()
        own = series(self.run, metric) | ({step: values[name]} if name in values else {})
        for at, value in own.items():
            trial.report(value, at)
        return bool(trial.should_prune())
