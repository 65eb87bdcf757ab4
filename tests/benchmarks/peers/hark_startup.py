"""hark's side of starting up: `hark train` as it is typed, for one step."""

import json
import sys

from research.cli import main as hark


def main() -> None:
    work = json.loads(sys.argv[1])
    dims = {"depth": "layers", "dim": "dim", "heads": "heads"}
    words = ["encoder=fastconformer_medium", *(f"encoder.{key}={work[name]}" for key, name in dims.items())]
    words += [f"data.train=[{work['manifest']}]", "data.buckets=1", f"data.workers={work['workers']}"]
    words += ["train.steps=1", "log.wandb=disabled", f"run.folder={work['out']}"]
    print(json.dumps({"steps": 1 - hark(["train", *words])}))


if __name__ == "__main__":
    main()
