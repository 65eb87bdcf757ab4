"""A new objective is one file anywhere: listed, checked, trained, swept and compared, with no other edit."""

import json
import os
import subprocess
import sys

import pytest

from research import runs as folders
from tests import runs

OBJECTIVE = '''"""Fill in what is hidden: an objective that hark does not have."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat
from research.nn.functional import select, stack
from research.nn.modules import MaskToken
from research.registry import preset, register


@register("gap_filler")
class GapFiller(Objective):
    """Say the clean frames behind a mask by a mixture of L1 and L2 on their stacks.

    `trivial` is what saying the mean, which is 0 in normalised features, would cost.
    """

    example = ("encoder=fastconformer_tiny", "quantizer=none")

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        square: float = 0.2  # weight of the squared error, the absolute one has the rest
        threshold: float = 0.8  # share of an encoder frame's input that has to be masked

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        self.cfg = cfg
        self.mask_token = MaskToken(self.frontend.dim)
        width = self.frontend.dim * self.encoder.stride
        self.head = nn.Sequential(
            nn.LayerNorm(self.encoder.dim),
            nn.Linear(self.encoder.dim, self.encoder.dim),
            nn.GELU(),
            nn.Linear(self.encoder.dim, width),
        )

    def forward(self, batch: Batch) -> Loss:
        clean, noisy = self.features(batch)  # (B, S, F)
        mask = self.masking(clean.lengths, clean.x.size(1))  # (B, S)
        h = self.encoder(self.hide(noisy, mask)).last  # (B, T, D)
        hit = stack(mask[..., None].float(), self.encoder.stride).mean(-1) > self.cfg.threshold  # (B, T)
        y = select(stack(clean.x, self.encoder.stride), hit).float()  # (M, r * F)
        error = self.cost(self.head(select(h.x, hit)).float() - y)
        count = len(y)
        trivial = Stat(self.cost(y), count)
        return Loss(error, count, {"trivial": trivial, "mask_ratio": self.ratio(mask, clean)})

    def cost(self, difference: Tensor) -> Tensor:  # (M, C) -> scalar, a sum over M
        each = self.cfg.square * difference.square() + (1 - self.cfg.square) * difference.abs()
        return each.mean(-1).sum()

    def ratio(self, mask: Tensor, clean: Seq) -> Stat:
        return Stat(torch.tensor(float(mask.sum())), float(clean.lengths.sum()))


preset("gap_filler_square", GapFiller.Config(square=1.0))
'''
SMALL = (
    "objective=gap_filler", "encoder=fastconformer_tiny", "quantizer=none", "data.batch_seconds=12", "data.buckets=4",
    "train.steps=20", "train.log_every=1", "train.validate_every=20", "checkpoint.every=10", "schedule.warmup=5",
    "log.wandb=disabled", "run.device=cpu", "run.name=gaps",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working folder far from hark, with the file in it."""
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "gap_filler.py").write_text(OBJECTIVE)
    return place


def hark(folder, *words):
    """Type a command in the folder; give what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", *words], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"HARK_PLUGINS": "gap_filler.py", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def data(speech):
    return f"data.train=[{speech['train']}]", f"data.valid=[{speech['valid']}]"


def test_it_is_short_listed_and_keeps_every_rule(folder):
    assert len(OBJECTIVE.splitlines()) <= 60
    listed = hark(folder, "list", "objective")
    assert "Say the clean frames behind a mask" in listed
    assert "gap_filler with square=1.0" in listed
    checked = hark(folder, "check", "objective=gap_filler")
    assert "objective=gap_filler: gap_filler.GapFiller" in checked
    assert "broken" not in checked


def test_it_is_trained_swept_and_compared(folder, speech):
    hark(folder, "train", *SMALL, *data(speech))
    (run,) = (folder / "runs").glob("gaps-*")
    losses = list(runs.losses(run).values())
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])
    said = hark(folder, "sweep", "--name", "gaps", *SMALL, *data(speech), "run.seed=0,1", "--follow")
    assert "2 cells: 2 done" in said
    compared(folder, "gaps", seeds=2)


def test_it_is_swept_through_slurm(folder, speech, slurm):
    jobs = (
        "cluster=slurm",
        "cluster.partition=low",
        "cluster.cpus=1",
        "cluster.memory_gb=0.9",
        "cluster.tries=1",
    )
    more = ("run.seed=2,3", "run.name=slurm_gaps", "data.workers=0", "--follow")
    said = hark(folder, "sweep", "--name", "far", *SMALL, *data(speech), *jobs, *more)
    assert "2 cells: 2 done" in said
    compared(folder, "far", seeds=2)


def compared(folder, sweep, seeds):
    """The analysis has one row for it, over its seeds, of jobs that read a copy of the file."""
    cells = json.loads((folder / "runs" / "sweeps" / sweep / "sweep.json").read_text())["cells"]
    assert all(folders.finished(folder / "runs" / name) for name in cells)
    assert list((folder / "runs" / "sweeps" / "code").glob("*/gap_filler.py"))
    table = hark(folder, "compare", sweep)
    (line,) = (line for line in table.splitlines() if "gaps" in line)
    assert f" {seeds} " in line
