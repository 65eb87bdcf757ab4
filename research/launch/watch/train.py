"""`hark train`, with the probes that `watch` asks for on the way. Light where it asks for none."""

import os

from research import runs
from research.compose import Composed
from research.config import Config, Where
from research.launch.sweep.order import Order
from research.training import loop
from research.training.loop import Pruner


def train(composed: Composed[Config], pruner: Pruner | None = None, order: Order | None = None) -> int:
    """Train the run that a config is, or go on with it, and watch it; exit code as of `loop.train`.

    `order` is what the job was told that this is, if it is one. HarkError for settings that cannot be.
    """
    config = composed.config
    if not config.watch.every:
        return loop.train(composed, pruner)
    from research.launch.watch.jobs import settle, waiting  # noqa: PLC0415  seconds, with the probes
    from research.launch.watch.watcher import Watcher, check  # noqa: PLC0415

    check(config)
    code = loop.train(composed, pruner, lambda run: Watcher(run.absolute(), composed, order))
    if config.watch.where is Where.job and os.environ.get("RANK", "0") == "0":
        run = runs.folder(config)
        settle(run, config.checkpoint, waiting(run, config))
    return code
