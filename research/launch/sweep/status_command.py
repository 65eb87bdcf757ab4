"""`hark status`, `hark logs`, `hark cancel` and `hark retry`: their words. Light to import."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

NAMES = """\
What is named: a sweep (nest_codes), a run by its folder (runs/nest_codes-ab12cd34ef) or its signature (ab12cd34ef);
the beginning is enough where nothing else begins so."""

STATUS_EPILOG = f"""\
{NAMES}
Without a name: a line for every sweep.
Exit code: 0 all done; 3 something still runs or waits; 1 neither, but something is failed, lost, cancelled, stopped or
missing; 2 a wrong name. So scripts may wait: until hark status nest_codes >/dev/null; [ $? -ne 3 ]; do sleep 60; done"""

LOGS_EPILOG = CANCEL_EPILOG = RETRY_EPILOG = NAMES


def add_names(sub: ArgumentParser, least: str) -> None:
    sub.add_argument("names", nargs=least, metavar="SWEEP or RUN")
    sub.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (runs)")


def add_status(sub: ArgumentParser) -> None:
    add_names(sub, "*")
    how = sub.add_mutually_exclusive_group()
    how.add_argument(
        "--follow",
        action="store_true",
        help="show it until nothing runs or waits; Ctrl-C leaves the jobs alone",
    )
    how.add_argument("--json", action="store_true", help="print one JSON object")


def add_logs(sub: ArgumentParser) -> None:
    add_names(sub, "+")
    sub.add_argument("--lines", type=int, default=20, metavar="N", help="last lines of each file (20)")
    sub.add_argument("--err", action="store_true", help="what was written to standard error")
    sub.add_argument(
        "--follow", action="store_true", help="go on until nothing runs or waits, through requeues"
    )


def add_cancel(sub: ArgumentParser) -> None:
    add_names(sub, "+")
    sub.add_argument("--dry-run", action="store_true", help="say what would be cancelled")


def add_retry(sub: ArgumentParser) -> None:
    add_names(sub, "+")
    for name in ("failed", "lost", "alarmed", "cancelled"):
        sub.add_argument(f"--{name}", action="store_true", help=f"those that are {name}")
    sub.add_argument("--dry-run", action="store_true", help="say what would be submitted")


def run_status(args: Namespace) -> int:
    from research.launch.sweep.status import run  # noqa: PLC0415

    return run(args)


def run_logs(args: Namespace) -> int:
    from research.launch.sweep.logs import run  # noqa: PLC0415

    return run(args)


def run_cancel(args: Namespace) -> int:
    from research.launch.sweep.cancel import run  # noqa: PLC0415

    return run(args)


def run_retry(args: Namespace) -> int:
    from research.launch.sweep.retry import run  # noqa: PLC0415

    return run(args)
