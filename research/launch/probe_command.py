"""`hark probe` of a run: what it finds goes to W&B as well. Light to import."""

from argparse import Namespace

from research.evaluation import command

add_arguments = command.add_arguments


def run(args: Namespace) -> int:
    from research.training.follower import catch_up  # noqa: PLC0415

    command.run(args)
    if (args.checkpoint / "metrics.jsonl").exists():
        catch_up(args.checkpoint, print)
    return 0
