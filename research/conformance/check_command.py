"""`hark check`: its words. Light to import."""

from argparse import ArgumentParser, Namespace

EPILOG = """\
for example
  hark check my_objective.py                  every plugin of a file, wherever it lies
  hark check objective=nest                   one plugin
  hark check nest --rule loss_is_a_sum        one rule, by the name that is printed where it is broken
Exit code 1 where a rule is broken, 2 where there is nothing to check."""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("name", help="a plugin's name, kind=name, or a file of plugins")
    sub.add_argument("--rule", help="hold it to this one only")


def run(args: Namespace) -> int:
    from research.conformance.command import run as check  # noqa: PLC0415

    return check(args)
