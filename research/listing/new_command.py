"""`hark new`: its words. Light to import."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
for example
  hark new objective my_objective         writes my_objective.py, which keeps every rule as it is
  hark new masking my_masks --out plugins/masking"""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("kind", help="objective, encoder, frontend, quantizer, masking, augmentation")
    sub.add_argument("name", help="what it is called on the command line, and its file")
    sub.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="default: the working folder")


def run(args: Namespace) -> int:
    from research.listing.new import new  # noqa: PLC0415

    return new(args.kind, args.name, args.out)
