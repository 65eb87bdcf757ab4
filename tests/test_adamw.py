"""AdamW without torch's compiler: torch's own steps, in the forms that torch writes down plainly."""

import json
import subprocess
import sys
from copy import deepcopy

import pytest
import torch

from research.training.adamw import AdamW
from tests.runs import TINY, only_run

SETTINGS = {"lr": 3e-3, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.1}
CODE = "import sys; from research.cli import main; main(sys.argv[1:]); print('torch._dynamo' in sys.modules)"


def weights():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size)) for size in ((17, 9), (3,), (2, 2))]


def walk(params, optimizer, steps, scale=1.0):
    """Take steps; the last parameter never has a gradient."""
    torch.manual_seed(1)
    for _ in range(steps):
        for p in params[:-1]:
            p.grad = torch.randn_like(p) * scale
        optimizer.step()
        optimizer.zero_grad()


def pair():
    ours, theirs = weights(), weights()
    plain = torch.optim.AdamW(theirs, **SETTINGS, foreach=False)
    return ours, AdamW([{"params": ours}], **SETTINGS), theirs, plain


def test_it_takes_the_steps_of_torchs_plain_loop():
    ours, fused, theirs, plain = pair()
    walk(ours, fused, 5)
    walk(theirs, plain, 5)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
    assert torch.equal(ours[-1], weights()[-1])  # no gradient, no decay


def test_gradients_are_divided_as_they_are_read():
    ours, fused, theirs, plain = pair()
    fused.scale = torch.tensor(64.0)
    walk(ours, fused, 3, scale=64.0)
    walk(theirs, plain, 3)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("back", [False, True])
def test_its_state_is_torchs(back):
    ours, fused, theirs, plain = pair()
    first, second = ((theirs, plain), (ours, fused)) if back else ((ours, fused), (theirs, plain))
    walk(*first, 2)
    second[1].load_state_dict(deepcopy(first[1].state_dict()))
    for source, target in zip(first[0], second[0], strict=True):
        target.data.copy_(source.data)
    walk(*first, 2)
    walk(*second, 2)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_state_of_torchs_may_lack_parameters(steps):
    """torch keeps nothing of a parameter that never had a gradient, as those of a stage that has not begun."""
    ours, fused, theirs, plain = pair()
    walk(theirs, plain, steps)
    fused.load_state_dict(deepcopy(plain.state_dict()))
    for source, target in zip(theirs, ours, strict=True):
        target.data.copy_(source.data)
    for params, optimizer in ((ours, fused), (theirs, plain)):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)


def test_a_run_does_without_torchs_compiler(speech, tmp_path):
    words = [
        *TINY,
        f"data.train=[{speech['train']}]",
        f"data.valid=[{speech['valid']}]",
        "train.steps=2",
        f"run.folder={tmp_path / 'runs'}",
    ]
    done = subprocess.run(
        [sys.executable, "-c", CODE, "train", *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "False"
    lines = (only_run(tmp_path / "runs") / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines][-1] == 2
