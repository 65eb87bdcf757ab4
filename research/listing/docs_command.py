"""`hark docs`: its words. Light to import."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
for example
  hark docs --out build/docs     a page for every plugin, and an index
  hark docs objective=nest       print one"""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("name", nargs="?", help="print the page of this plugin, a name or kind=name")
    sub.add_argument(
        "--out", type=Path, default=Path("build/docs"), metavar="DIR", help="(default: %(default)s)"
    )


def run(args: Namespace) -> int:
    from research.listing.docs import docs  # noqa: PLC0415

    return docs(args.name, args.out)
