"""A search goes on by itself: a job that has ended draws what to try next, and submits it."""

import traceback
from argparse import ArgumentParser
from pathlib import Path

from research.launch.sweep import ledger
from research.launch.sweep.folder import Folder
from research.launch.sweep.order import Order
from research.launch.sweep.prune import FILE
from research.launch.sweep.sweep_command import add_arguments


def onward(order: Order) -> None:
    """Type the sweep's command again, if it is a search and this job is over; whatever fails is told in the job's log.

    After `hark cancel`, or another end that somebody else made, only the user goes on with it.
    """
    folder = Path(order.folder)
    events = ledger.events(Path(order.run), order.kind)
    if not (folder / FILE).exists() or not ledger.ended_for_good(events[-1]):
        return
    last = ledger.submission(events)
    if events[-1]["outcome"] == "stopped" or (last and last.cancelled):
        return
    from research.launch.sweep.sweep import sweep  # noqa: PLC0415  most jobs are no search's

    parser = ArgumentParser("hark sweep")
    add_arguments(parser)
    try:
        sweep(parser.parse_args(Folder(folder).read()["typed"][-1]["words"]))
    except Exception:  # noqa: BLE001  the run is done all the same; any other job, or the user, goes on
        traceback.print_exc()
