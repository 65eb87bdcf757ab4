"""`hark train`: its words. Light to import."""

from argparse import ArgumentParser, Namespace

EPILOG = """\
overrides read key=value, for example
  hark train experiment=nest_demo data.train=[data/debspeech-mini/train.jsonl]
  hark train experiment=nest_large encoder.dropout=0.2 run.seed=1 train.precision=bf16
The same configuration is the same run: typed again, it resumes."""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("overrides", nargs="*", metavar="key=value")


def run(args: Namespace) -> int:
    from research.compose import compose_config  # noqa: PLC0415
    from research.launch.watch.train import train  # noqa: PLC0415

    return train(compose_config(args.overrides))
