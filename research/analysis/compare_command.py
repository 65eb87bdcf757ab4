"""`hark compare`: configurations side by side, over seeds. Light to import."""

import argparse
from pathlib import Path

EPILOG = "examples:\n  hark compare methods\n  hark compare runs --probe pnmi --markdown"
HEADINGS = (
    "run",
    "seeds",
    "of its own",
    "trivial",
    "probe",
    "random-init",
    "gain",
    "",
    "log-mel",
    "audio-h",
    "min",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="SOURCE",
        help="a sweep by name, a folder of runs, a packed file or wandb:ENTITY/PROJECT",
    )
    parser.add_argument("--probe", default="phone_frames", metavar="NAME", help="default: phone_frames")
    parser.add_argument(
        "--folder", default="runs", type=Path, metavar="DIR", help="where the sweep's runs are"
    )
    parser.add_argument("--markdown", action="store_true", help="print it for a README")


def run(args: argparse.Namespace) -> int:
    """Print a table of configurations, the best gain over a random encoder first."""
    from rich.box import MARKDOWN, SIMPLE  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from research.analysis import compare, frame  # noqa: PLC0415

    table = compare.compare(frame.runs(args.what, args.folder), args.probe)
    grid = Table(*HEADINGS, box=MARKDOWN if args.markdown else SIMPLE)
    for _, line in table.iterrows():
        grid.add_row(*compare.cells(line))
    console = Console(width=200 if args.markdown else None)
    console.print(grid)
    for note in compare.notes(table):
        console.print(note, soft_wrap=True, highlight=False)
    return 0
