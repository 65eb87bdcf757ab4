"""`python -m tests.slurm up` prints what the shell has to export; `down` ends the cluster."""

import sys

from tests.slurm.fixture import HOME, toy
from tests.slurm.packages import install


def say(text: str) -> None:
    print(text, file=sys.stderr)


def up() -> int:
    reason = install(HOME)
    if reason:
        say(f"slurm-up: {reason}")
        return 2
    cluster = toy()
    cluster.up()
    for name, value in cluster.environment().items():
        print(f"export {name}='{value}'")
    say("two nodes of 4 CPUs are up, with partitions high (the default) and low (which high preempts)")
    say('this shell sees them after:  eval "$(make slurm-up)"  then try: sinfo, hark sweep ... cluster=slurm')
    return 0


def down() -> int:
    toy().down()
    say("the cluster and its jobs are gone")
    return 0


sys.exit({"up": up, "down": down}[sys.argv[1]]())
