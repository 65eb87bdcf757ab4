"""Trainings that are probed on their way, as processes: ranks of their own, with probes that a file beside them holds."""

import json
import os
import sys
from pathlib import Path

import torch
from torch.multiprocessing.spawn import ProcessExitedException

from research.compose import compose_config
from research.launch.watch.train import train
from tests.engines import VARIABLES, free_port, preload

TINY = (
    "encoder=fastconformer_tiny", "encoder.depth=1", "quantizer.codes=64", "augmentation=speaker_noise",
    "data.batch_seconds=6", "data.buckets=4", "data.workers=0", "data.reader=torch", "train.steps=8",
    "train.log_every=1", "train.validate_every=4", "schedule.warmup=5", "checkpoint.every=4",
    "checkpoint.keep_last=1", "checkpoint.keep_best=0", "log.wandb=disabled", "run.device=cpu", "health=off",
)  # fmt: skip
WATCH = ("watch.every=3", "watch.probes=[quick]", "watch.sentences=3", "watch.words='--dev 2'")
PLUGIN = '''
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from research.nn.classifier import Training
from research.registry import find, register

PhoneFrames = find("probe", "phone_frames")


@register("quick")
class Quick(PhoneFrames):
    """Frame phone classification in two steps."""

    @dataclass(kw_only=True)
    class Config(PhoneFrames.Config):
        training: Training = field(default_factory=lambda: Training(steps=2))


@register("deadly")
class Deadly(Quick):
    """Kills its process, the first time."""

    @dataclass(kw_only=True)
    class Config(Quick.Config):
        pass

    def run(self, *given):
        mark, number = os.environ["HARK_TEST_END"].split(":")
        if not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), int(number))
        return super().run(*given)


@register("hopeless")
class Hopeless(Quick):
    """Fails."""

    @dataclass(kw_only=True)
    class Config(Quick.Config):
        pass

    def run(self, *given):
        raise ArithmeticError("out of ideas")
'''


def panel_in(folder, corpus, speech):
    """Write manifests to train on and to probe with, and the probes."""
    for split in ("train", "valid"):
        (folder / f"{split}.jsonl").write_text(speech[split].read_text())
    for name in ("phones_train.jsonl", "phones_test.jsonl"):
        lines = [json.loads(line) for line in (corpus / name).read_text().splitlines()]
        lines = sorted(lines, key=lambda line: line["duration"])[:8]
        for line in lines:
            line["audio_filepath"] = str(corpus / line["audio_filepath"])
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "quick_probes.py").write_text(PLUGIN)
    return folder


def words(panel, root, *overrides):
    data = (f"data.train=[{panel / 'train.jsonl'}]", f"data.valid=[{panel / 'valid.jsonl'}]")
    return [*TINY, *data, f"run.folder={root}", *overrides]


def be_rank(rank, size, port, environment, overrides):
    values = (rank, rank, size, "127.0.0.1", port)
    os.environ.update(environment | dict(zip(VARIABLES, map(str, values), strict=True)))
    sys.path.insert(0, environment["PYTHONPATH"])
    torch.set_num_threads(1)
    sys.exit(train(compose_config(overrides)))


def leg(panel, root, *overrides, size=1):
    """Train with `size` ranks until the end, whatever it is; give the exit code that was not 0."""
    preload()
    told = (size, free_port(), dict(os.environ), words(panel, root, *overrides))
    try:
        torch.multiprocessing.start_processes(be_rank, told, nprocs=size, start_method="forkserver")
    except ProcessExitedException as error:
        return error.exit_code
    return 0


def run_in(root):
    """The only run in a folder of runs."""
    (config,) = Path(root).glob("*/config.yaml")
    return config.parent
