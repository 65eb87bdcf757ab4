"""What a job does: it trains a cell, or probes it, and writes down how that ended. Light until it does.

    python -P -m research.launch.sweep.job ORDER.json

Exit code: 0 done, 75 to be started again, 128 + n stopped by signal n, 4 by an alarm, 1 failed.
"""

import gc
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from research.launch.sweep.order import Order, read_order
from research.launch.sweep.place import here
from research.training.signals import ALARMED, PRUNED, StopFlag


@dataclass(frozen=True)
class Job:
    """An order as submitit calls it."""

    path: str

    def __call__(self) -> None:
        if code := perform(Path(self.path)):
            sys.exit(code)

    def checkpoint(self) -> Any:
        """Start from the beginning: for a signal that comes before anything has begun."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415  only on SLURM

        return DelayedSubmission(self)


class Leave(StopFlag):
    """For work that saves nothing on its way: a signal ends it at once."""

    def catch(self, number: int, frame: FrameType | None) -> None:
        super().catch(number, frame)
        raise KeyboardInterrupt


def perform(path: Path) -> int:
    """Do what an order says, once or until a signal, and let its sweep go on; give the exit code."""
    gc.disable()  # imports make much and free nothing: half a second of two
    order = read_order(path)
    code = work(path, order)
    # a warning is for work that is still to be saved; not SIG_IGN, which jobs started from here would inherit
    signal.signal(signal.SIGUSR2, lambda *_: None)
    if here().rank == 0:
        from research.launch.sweep.onward import onward  # noqa: PLC0415

        onward(order)
    gc.freeze()  # nor is it worth a second to free it all at the end
    return code


def work(path: Path, order: Order) -> int:
    with StopFlag() if order.kind == "train" else Leave() as flag:
        os.chdir(order.cwd)
        sys.path.append(order.cwd)  # behind the snapshot: modules that $HARK_PLUGINS names
        os.environ.setdefault("OMP_NUM_THREADS", str(order.values["cluster"]["cpus"]))
        from research.launch.sweep.ending import Ending  # noqa: PLC0415  a second, with torch

        ending = Ending(path, order, here(), flag)
        try:
            ending.began()
            code = train(order) if order.kind == "train" else probe(order)
        except BaseException as error:  # noqa: BLE001  SystemExit too: no job may end without a word
            traceback.print_exc()
            if flag.signal is None:
                return ending.failed(error)
            return ending.stopped()  # a signal kills what the run needs: such an error is not its own
        if code == PRUNED:
            return ending.pruned()
        if code == ALARMED:
            return ending.alarmed()
        return ending.stopped() if code else ending.done()


def train(order: Order) -> int:
    """Train, or go on; exit code of the loop. HarkError when this code knows no such run."""
    from omegaconf.errors import OmegaConfBaseException  # noqa: PLC0415

    from research import registry, runs  # noqa: PLC0415
    from research.compose import Composed  # noqa: PLC0415
    from research.config import Config  # noqa: PLC0415
    from research.errors import HarkError  # noqa: PLC0415
    from research.launch.sweep.prune import pruner  # noqa: PLC0415
    from research.launch.watch import train  # noqa: PLC0415

    run = Path(order.run)
    registry.load_plugins()
    gc.enable()
    try:
        config = runs.from_values(Config, order.values)
    except (OmegaConfBaseException, HarkError) as error:
        reason = str(error).splitlines()[0]
        raise HarkError(
            f"{order.run}: the code of {order.code} does not know this config ({reason})"
        ) from None
    signature = runs.signature(config)
    if not run.name.endswith(f"-{signature}"):
        raise HarkError(
            f"{order.run}: the code of {order.code} takes this config for another run, {signature}; sweep again"
        )
    if runs.finished(run):
        return 0
    config.run.name, config.run.folder = run.name.removesuffix(f"-{signature}"), str(run.parent)
    composed = Composed(config, order.values["plugins"], order.overrides)
    return train.train(composed, pruner(Path(order.folder), run), order)


def probe(order: Order) -> int:
    """Probe what was trained, or one step on the way; exit code."""
    if order.kind != "probe":
        from research.launch.watch import jobs  # noqa: PLC0415

        gc.enable()
        return jobs.answer(order)
    import argparse  # noqa: PLC0415

    from research.launch import probe_command  # noqa: PLC0415

    gc.enable()
    parser = argparse.ArgumentParser("hark probe")
    probe_command.add_arguments(parser)
    return probe_command.run(parser.parse_args([order.run, *order.probe]))


def main() -> int:
    code = perform(Path(sys.argv[1]))
    for number in (signal.SIGUSR2, signal.SIGTERM):  # all is said: nothing may change the exit code
        signal.signal(number, signal.SIG_IGN)
    return code


if __name__ == "__main__":
    sys.exit(main())
