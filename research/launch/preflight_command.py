"""`hark preflight`: what would go wrong with a job, before it is queued. Light to import."""

import json
import sys
from argparse import ArgumentParser, Namespace

from research.errors import HarkError

EPILOG = """\
overrides read as for `hark train`; cluster=NAME says what the job gets, for example
  hark preflight experiment=nest_demo data.train=[data/debspeech-mini/train.jsonl]
  hark preflight experiment=nemo_nest_fast_conformer data.train=[train.jsonl] cluster=slurm_h100
Exit code 2 when a check refuses the job; with --force it is 0."""

SAMPLE = 200  # a fault of one file in a hundred shows in 7 samples of 8
COLOURS = {"ok": "green", "warn": "yellow", "refuse": "red"}


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    sub.add_argument("--force", action="store_true", help="exit code 0 whatever is found")
    sub.add_argument(
        "--sample", type=int, default=SAMPLE, metavar="N", help=f"utterances to look at ({SAMPLE})"
    )
    sub.add_argument("--json", action="store_true", help="print a JSON list instead of a table")


def run(args: Namespace) -> int:
    """Print what is found; HarkError when a check refuses the job and nothing forces it."""
    from research.launch.preflight import of_overrides  # noqa: PLC0415

    if args.sample < 1:
        raise HarkError(f"--sample={args.sample}: look at 1 utterance or more")
    found = [(each.name, each.verdict.value, each.text) for each in of_overrides(args.overrides, args.sample)]
    if args.json:
        print(json.dumps([dict(zip(("name", "verdict", "text"), each, strict=True)) for each in found]))
    else:
        show(found)
    against = [name for name, verdict, _ in found if verdict == "refuse"]
    if not against:
        return 0
    said = f"this job is refused by {', '.join(against)}"
    if not args.force:
        raise HarkError(f"{said}; see above, or type --force")
    print(f"hark: {said}; forced", file=sys.stderr)
    return 0


def show(found: list[tuple[str, str, str]]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, show_header=False)
    for name, verdict, text in found:
        table.add_row(name, Text(verdict, COLOURS[verdict]), Text(text))
    Console().print(table)
