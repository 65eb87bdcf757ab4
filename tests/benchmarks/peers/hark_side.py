"""hark's side: the step of `hark train`, augmentation included."""

from collections.abc import Callable
from itertools import repeat
from typing import Any

import torch

from research.compose import compose_config
from research.contracts import Batch, Seq, Stat
from research.engine.gangs import start
from research.model import assemble
from research.registry import build
from research.training.data import Fed
from research.training.memory import keep_freed_memory
from research.training.optimizer import adamw
from research.training.stats import StatBag
from research.training.step import Student, train_step
from tests.benchmarks.peers.serving import clips, serve

SIZES = [
    "encoder=fastconformer_medium",
    "encoder.dim={dim}",
    "encoder.depth={layers}",
    "encoder.heads={heads}",
]
WORKS = {
    "nest": ["objective=nest"],
    "contrast": ["experiment=fastconformer_w2v_bert", "masking.prob=0.5"],
}


def prepare(work: dict[str, Any]) -> Callable[[], None]:
    keep_freed_memory()
    words = [*WORKS[work["work"]], *SIZES, "train.precision={dtype}"]
    cfg = compose_config([word.format(**work) for word in words]).config
    ranks = start("cpu")
    objective = assemble(cfg).train()
    student = Student(
        objective, objective, build(cfg.augmentation), adamw(objective, cfg.optimizer), ranks, cfg
    )
    batch, bag = Batch.clean(Seq(*clips(work))), StatBag(ranks.device)
    fed = repeat(Fed(batch, work["batch"] * work["seconds"], Stat(torch.zeros(()))))

    def step() -> None:
        train_step(student, fed, 0, bag, stop=False)

    return step


if __name__ == "__main__":
    serve(prepare)
