"""`hark list` and `hark show`: their words. Light to import."""

from argparse import ArgumentParser, Namespace


def add_list(sub: ArgumentParser) -> None:
    sub.add_argument(
        "kind", nargs="?", help="objective, encoder, frontend, quantizer, ..., experiment, sweep"
    )


def add_show(sub: ArgumentParser) -> None:
    sub.add_argument("overrides", nargs="*", metavar="key=value")


def run_list(args: Namespace) -> int:
    from research.listing.table import list_plugins  # noqa: PLC0415

    return list_plugins(args.kind)


def run_show(args: Namespace) -> int:
    from research.listing.table import show  # noqa: PLC0415

    return show(args.overrides)
