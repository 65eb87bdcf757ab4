"""`hark sweep`: all cells of a grid or of a search, submitted at once. Light to import."""

from argparse import ArgumentParser, Namespace

EPILOG = """\
NAME is a recipe, sweeps/sweep/NAME.yaml; axes read as in Hydra, for example
  hark sweep nest_codes data.train=[data/debspeech-mini/train.jsonl] cluster=slurm cluster.partition=gpu
  hark sweep --name codes experiment=nest_demo quantizer.codes=64,256 'run.seed=range(5)' cluster=local
  hark sweep --name rates experiment=nest_demo optimizer.lr=1e-4,1e-3 --dry-run
  hark sweep nest_codes data.train=[...] cluster=slurm --probe '--seeds 5'   a job probes each run that is done
The command returns when the jobs are queued. Typed again, it submits what is missing, lost or failed, and nothing else;
hark status, logs, cancel and retry say and do the rest."""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("words", nargs="*", metavar="NAME or key=value")
    sub.add_argument("--name", help="of the sweep (default: that of the recipe, or run.name)")
    sub.add_argument("--dry-run", action="store_true", help="say what would be submitted, and check it")
    sub.add_argument("--follow", action="store_true", help="show how it goes until all is done")
    sub.add_argument("--force", action="store_true", help="submit cells that preflight refuses, too")
    sub.add_argument(
        "--probe",
        nargs="?",
        const="",
        metavar="WORDS",
        help="probe every run when it is done, as `hark probe` would",
    )


def run(args: Namespace) -> int:
    from research.launch.sweep.sweep import sweep  # noqa: PLC0415

    return sweep(args)
