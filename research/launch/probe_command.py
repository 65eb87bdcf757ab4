"""`hark probe` of a run: what it finds goes to W&B as well. Light to import."""

from argparse import Namespace

from research.evaluation import command

add_arguments = command.add_arguments


def run(args: Namespace) -> int:
    from research.training.follower import catch_up  # noqa: PLC0415
    from research.training.memory import keep_freed_memory  # noqa: PLC0415

    keep_freed_memory()  # a seventh of a probe's time
    command.run(args)
    if (args.checkpoint / "metrics.jsonl").exists():
        catch_up(args.checkpoint, print)
    return 0
