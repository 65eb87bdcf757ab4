"""Checkpoints in the formats of others: what `hark export` does."""

import shutil
from pathlib import Path
from tempfile import mkdtemp

from research import registry
from research.errors import HarkError
from research.interop import fairseq2, hark_run, huggingface, nemo_export, state
from research.interop.huggingface import remote
from research.interop.load import open_upstream, read
from research.interop.report import Entry
from research.interop.source import Source
from research.model import Upstream


def export(path: Path, to: str, out: Path, step: int | None = None) -> list[Entry]:
    """Write the checkpoint at `path` (`step` of a run, the newest good one if None) as `out`, whole or not at all.

    `to` is state, hf, nemo or fairseq2. Gives what became of every option and weight where the format keeps account.
    HarkError: nothing readable is at `path`, `out` is there already, or the format has no place for the model.
    """
    if out.exists():
        raise HarkError(f"{out}: is there already; choose another name, or remove it first")
    source = read(path, step)
    match to:
        case "state":
            state.write(source, out)
            return []
        case "nemo":
            to_nemo(path, source, out)
            return []
        case "fairseq2":
            return fairseq2.write(open_upstream(source), out)
        case "hf":
            return to_hf(open_upstream(source), out)
        case _:
            raise HarkError(f"--to {to}: choose state, hf, nemo or fairseq2")


def to_nemo(path: Path, source: Source, out: Path) -> None:
    config = hark_run.pretraining(path)
    if config is None:
        raise HarkError(
            f"{path}: a .nemo archive is made of a hark run that pretrained, this is a {source.kind}"
        )
    nemo_export.write(config, source.state, out)


def to_hf(upstream: Upstream, out: Path) -> list[Entry]:
    """Write transformers' own model where it has one, else hark's code for it."""
    theirs = {family.ENCODER for family in huggingface.FAMILIES.values()}
    native = any(isinstance(upstream.encoder, registry.find("encoder", name)) for name in theirs)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        entries = (huggingface.write if native else remote.write)(upstream, folder)
        folder.chmod(0o755)
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return entries
