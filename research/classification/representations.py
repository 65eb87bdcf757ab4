"""What is compared: a checkpoint, the same architecture without training, and bare frontends."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from research import registry
from research.classification.config import Classification, Labelled
from research.data import features
from research.data.manifest import Manifest, load
from research.engine.gangs import Ranks
from research.errors import HarkError, nearest
from research.evaluation.extract import make
from research.evaluation.extract_encode import Wanted
from research.evaluation.extract_job import Job
from research.evaluation.records import PRETRAINED, RANDOM
from research.interop.load import open_upstream
from research.interop.report import Report
from research.interop.source import Source
from research.model import StoredUpstream, Upstream, build_upstream
from research.nn.frames import Frames
from research.training.seeds import seed_all


@dataclass
class Origins:
    """Opens representations by name. Weights are drawn or read anew each time: training may have changed the last."""

    cfg: Classification
    source: Source | None  # None: the manifests name stored features

    def upstream(self, name: str, seed: int) -> Upstream:
        """Give `pretrained`, `random_init` (of a seed), or a frontend's name, on the CPU in eval mode."""
        if name == PRETRAINED and self.source:
            found = open_upstream(self.source)
        elif name == RANDOM and self.source:
            seed_all(RANDOM, seed)
            found = build_upstream(self.source.frontend, self.source.encoder)
        else:
            frontend = registry.build(registry.config_of("frontend", name))
            found = Upstream(frontend, Frames(frontend.dim))
        if found.sample_rate != self.cfg.data.sample_rate:
            raise HarkError(
                f"data.sample_rate={self.cfg.data.sample_rate}: {name} hears {found.sample_rate} Hz; type "
                f"data.sample_rate={found.sample_rate}"
            )
        return found.eval()

    def layers(self, name: str, there: Sequence[int]) -> tuple[int, ...]:
        """Give those of the layers that are asked for; of a bare frontend the only one. HarkError: one is not there."""
        asked = self.cfg.upstream.layers
        if name not in (PRETRAINED, RANDOM) or asked == "all":
            return tuple(there)
        if asked == "last":
            return (max(there),)
        chosen = tuple(asked) if isinstance(asked, list) else (asked,)
        for layer in chosen:
            if layer not in there:
                known = ", ".join(map(str, there))
                raise HarkError(
                    f"upstream.layers={asked}: '{layer}' is none (there are: {known}; or type all, last)"
                )
        if len(set(chosen)) < len(chosen) or not chosen:
            raise HarkError(f"upstream.layers={asked}: name each layer once, and at least one")
        return chosen


def check_names(names: Sequence[str]) -> None:
    """HarkError when a baseline is neither `random_init` nor a frontend."""
    known = [RANDOM, *registry.names("frontend")]
    for name in names:
        if name not in known:
            raise HarkError(f"baselines: no representation is called '{name}'{nearest(name, known)}")


@contextmanager
def stored(
    upstream: Upstream, layers: Sequence[int], data: Labelled, out: Path, ranks: Ranks
) -> Iterator[tuple[Upstream, Labelled]]:
    """Compute the layers of all utterances once: what stands in for the upstream, and the manifests that go with it.

    `out` is removed when the work is done; what an interruption leaves is gone on with.
    """
    paths = {path: out / name_of(path) for path in dict.fromkeys([*data.train, *data.valid, *data.test])}
    for path, folder in paths.items():
        if not (folder / features.MANIFEST).exists():
            extract(upstream, tuple(layers), Path(path), folder, data=data, ranks=ranks)
    moved = [
        [str(paths[path] / features.MANIFEST) for path in part]
        for part in (data.train, data.valid, data.test)
    ]
    data = replace(data, train=moved[0], valid=moved[1], test=moved[2])
    yield from_store(load(data.train, data)), data
    ranks.barrier()
    if ranks.rank == 0:
        shutil.rmtree(out)


def from_store(manifest: Manifest) -> StoredUpstream:
    """What stands in for the encoder that made stored features."""
    found = features.layout(manifest)
    return StoredUpstream(
        layers=found.layers,
        depth=found.depth,
        dim=found.dim,
        period=found.period,
        sample_rate=found.sample_rate,
    )


def name_of(path: str) -> str:
    return f"{Path(path).stem}-{hashlib.sha256(str(Path(path).absolute()).encode()).hexdigest()[:8]}"


def extract(
    upstream: Upstream,
    layers: tuple[int, ...],
    manifest: Path,
    out: Path,
    *,
    data: Labelled,
    ranks: Ranks,
) -> None:
    """Store the layers of a manifest's utterances, in fp32."""
    job = Job(
        checkpoint=type(upstream.encoder).__name__,
        upstream=upstream,
        report=Report(str(manifest)),
        input=manifest,
        out=out,
        wanted=Wanted(layers, torch.float32, pool=False),
        data=data,
        shard_mb=256,
    )
    make(job, ranks)
