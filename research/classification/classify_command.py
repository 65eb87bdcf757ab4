"""`hark classify`: its words. Light to import."""

from argparse import ArgumentParser, Namespace

EPILOG = """\
overrides read key=value, for example
  hark classify upstream=runs/nest_demo-<signature> label=lang \\
    data.train=[train.jsonl] data.valid=[valid.jsonl] data.test=[test.jsonl] head=attentive seeds=5
  ... tune.start=200 tune.lr_scale=0.1     the encoder is trained too, from step 200 on
  ... lr_grid=[1e-4,1e-3,1e-2]             valid chooses; test is read once
The same configuration is the same experiment: typed again, it goes on, or prints what it found."""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("overrides", nargs="*", metavar="key=value")


def run(args: Namespace) -> int:
    from research.classification.command import run as classify  # noqa: PLC0415

    return classify(args.overrides)
