"""`hark check`: its words. Light to import."""

from argparse import ArgumentParser, Namespace


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("name", help="a plugin's name, or kind=name")


def run(args: Namespace) -> int:
    from research.conformance.command import run as check  # noqa: PLC0415

    return check(args)
