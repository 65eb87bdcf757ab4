"""hark's side: the step of `hark train`, augmentation included, of the architecture that the peer has.

Layers and widths are the same, with one exception: SpeechBrain's wav2vec 2.0 adds sinusoids once where hark, which has
none, rotates queries and keys in every layer. Masks cover about as many frames as the peer's do.
"""

from itertools import repeat

import torch

from research.compose import compose_config
from research.config import Config
from research.contracts import Batch, Seq, Stat
from research.engine.gangs import start
from research.model import assemble
from research.registry import build
from research.training.data import Fed
from research.training.memory import keep_freed_memory
from research.training.optimizer import adamw
from research.training.stats import StatBag
from research.training.step import Student, train_step
from tests.benchmarks.peers.serving import Prepared, Work, clips, serve

SIZES = ["encoder.dim={dim}", "encoder.depth={layers}", "encoder.heads={heads}"]
WAV2VEC2 = ["experiment=wav2vec2_base", "encoder.ff_dim={inner}"]
WORKS = {  # peer and work: overrides
    ("nemo", "nest"): ["objective=nest", "encoder=fastconformer_medium"],
    ("nemo", "contrast"): [
        "experiment=fastconformer_w2v_bert",
        "encoder=fastconformer_medium",
        "masking.prob=0.5",
    ],
    ("fairseq2", "wav2vec2"): [*WAV2VEC2, "encoder.dropout_embed=0.0"],
    ("speechbrain", "wav2vec2"): [
        *WAV2VEC2,
        "frontend=conv_wave_layer_no_bias",
        "frontend.normalize=false",
        "frontend.kernels=[11,3,3,3,3,3,3]",
        "encoder=transformer_rope",
        "encoder.order=pre",
        "encoder.dropout_ff=0.1",
        "objective.feature_penalty=0.0",
        "masking=grid_block",
        "masking.prob=0.65",
        "masking.length=10",
    ],
    ("speechbrain", "best_rq"): [
        "objective=best_rq",
        "encoder=conformer_large",
        "encoder.channels=64",
        "encoder.conv_norm=layer",
        "masking=grid_block",
        "masking.prob=0.6",
        "masking.length=4",
    ],
}


def composed(work: Work) -> Config:
    words = [*WORKS[work["peer"], work["work"]], *SIZES, "train.precision={dtype}"]
    return compose_config([word.format(**work, inner=4 * work["dim"]) for word in words]).config


def prepare(work: Work) -> Prepared:
    keep_freed_memory()
    cfg, ranks = composed(work), start("cpu")
    objective = assemble(cfg).train()
    student = Student(
        objective, objective, build(cfg.augmentation), adamw(objective, cfg.optimizer), ranks, cfg
    )
    batch, bag = Batch.clean(Seq(*clips(work))), StatBag(ranks.device)
    fed = repeat(Fed(batch, work["batch"] * work["seconds"], Stat(torch.zeros(()))))

    def step() -> None:
        train_step(student, fed, 0, bag, stop=False)

    return objective.parameters(), step


if __name__ == "__main__":
    serve(prepare)
