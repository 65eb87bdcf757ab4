"""Where another torch is installed fairseq2n does not load: all but its data pipeline must work there."""

import subprocess
import sys

BLOCK = """
import sys
sys.modules["fairseq2n"] = None  # any import of it fails, as with another torch
"""

IMPORTS = """
import importlib, pkgutil
import research.engine
for module in pkgutil.iter_modules(research.engine.__path__, "research.engine."):
    importlib.import_module(module.name)
from research.engine import bindings, pipeline
from research.errors import HarkError
assert not bindings.prepare()
assert bindings.problem()
try:
    pipeline.read([1], str, 1)
except HarkError as error:
    assert "data.reader=torch" in str(error), error
else:
    raise AssertionError("a pipeline without bindings")
from research import registry
registry.load_plugins()
assert not registry.broken, registry.broken
"""

STEP = """
import tempfile
from pathlib import Path
import torch
from research.compose import compose_config
from research.contracts import Batch, Seq
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import start
from research.engine.parallel import wrap
from research.model import assemble
from research.training.given import stand_in
from research.training.optimizer import adamw, state_of

ranks = start("cpu")
for name in registry.names("objective"):
    example = registry.find("objective", name).example
    config = compose_config([f"objective={name}", *example, "data.train=[none]"]).config
    model = assemble(config)
    optimizer = adamw(model, config.optimizer)
    audio = Seq(torch.randn(2, 32_000), torch.tensor([32_000, 24_000]))
    loss = wrap(model, ranks)(stand_in(Batch.clean(audio, ids=["a", "b"]), model))
    (loss.total / max(1, loss.count)).backward()
    optimizer.step()
    model.on_step_end(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), ranks, 1, 1)
        checkpoints.save(1, model.state_dict(), state_of(optimizer), {"step": 1}, 0.5)
        model.load_state_dict(checkpoints.load().model)
        checkpoints.close()
    print("trained", name)
"""

NO_BINDINGS = """
assert "fairseq2n.bindings" not in sys.modules
"""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_objective_trains_and_saves_without_bindings():
    from research import registry

    trained = run(BLOCK + IMPORTS + STEP + NO_BINDINGS)
    registry.load_plugins()
    known = registry.names("objective")
    ours = [name for name in known if registry.find("objective", name).__module__.startswith("plugins.")]
    assert [line.split()[1] for line in trained.splitlines()] == ours


OTHER_TORCH = """
import sys, torch
torch.__version__ = "2.13.0+cpu"
import research.engine.checkpoint
from research.engine import bindings
assert bindings.problem() == "it is built for torch 2.9.1, not 2.13.0", bindings.problem()
assert "fairseq2n.bindings" not in sys.modules
"""


def test_bindings_of_another_torch_are_never_loaded():
    """They may load and then crash: fairseq2n itself compares the CUDA version only."""
    run(OTHER_TORCH)
