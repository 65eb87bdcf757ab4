"""`hark classify key=value ...`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from research.classification.config import Classification
from research.classification.data import Corpus, open_corpus
from research.classification.report import report
from research.classification.representations import Origins, check_names
from research.classification.run import Experiment, StoppedError, still
from research.classification.task import check_fit
from research.classification.trials import read as read_trials
from research.compose import Composed, compose_root
from research.config import Parallel
from research.engine.gangs import Ranks
from research.errors import HarkError
from research.evaluation.splits import seen
from research.interop import hark_run
from research.interop.load import read
from research.interop.source import Source
from research.model import check_noise, check_parallel
from research.registry import build
from research.training.session import claim, processes
from research.training.signals import StopFlag


def run(overrides: Sequence[str]) -> int:
    """Do what is typed, or go on with it, and print the table. Exit code 0, or 128 + the signal that stopped it."""
    composed = compose(overrides)
    with processes(composed.config.run.device) as (ranks, flag):
        experiment = opened(composed, ranks, flag)
        with claim(experiment.composed, ranks) as path:
            experiment.path = path
            try:
                records = experiment.go()
            except StoppedError as stopped:
                return stopped.code
            if ranks.rank == 0:
                report(experiment, records)
    return 0


def compose(overrides: Sequence[str]) -> Composed[Classification]:
    """Compose the config; `upstream=PATH` names the path alone. HarkError: what is needed is not named."""
    short = "upstream="
    full = [o.replace(short, "upstream.path=", 1) if o.startswith(short) else o for o in overrides]
    composed = compose_root(Classification, full)
    cfg = composed.config
    if not cfg.label:
        raise HarkError("no label is named: type label=KEY, a key of the manifest such as lang")
    if cfg.seeds < 2:
        raise HarkError(f"seeds={cfg.seeds}: an interval takes at least 2")
    if cfg.tune.start is not None and cfg.train.parallel is Parallel.fsdp:
        raise HarkError(
            "train.parallel=fsdp: cannot share an encoder that begins to be trained at a step (tune.start); "
            "type train.parallel=ddp"
        )
    check_parallel(cfg.train)
    check_names(cfg.baselines)
    check_fit(cfg)
    check_noise(build(cfg.augmentation), cfg.data)
    return composed


def opened(composed: Composed[Classification], ranks: Ranks, flag: StopFlag) -> Experiment:
    """Read the checkpoint and the manifests, and refuse what cannot work before anything is computed."""
    cfg = composed.config
    source = read(cfg.upstream.path, cfg.upstream.step) if cfg.upstream.path else None
    cfg = replace(cfg, upstream=replace(cfg.upstream, step=source.step if source else None))
    corpus = open_corpus(cfg, ranks, tokens=build(cfg.criterion, dim_in=1, classes=2).frames)
    check_source(composed, corpus, source)
    for path in cfg.data.trials:
        read_trials(Path(path), corpus.test)
    return Experiment(
        replace(composed, config=cfg), Path(), ranks, flag, corpus, Origins(cfg, source), heard(cfg, corpus)
    )


def check_source(composed: Composed[Classification], corpus: Corpus, source: Source | None) -> None:
    """HarkError unless there is either a checkpoint or stored features, which nothing can change."""
    if not corpus.train.stored:
        if source is None:
            raise HarkError("no checkpoint is named: type upstream=runs/<name>-<signature>")
        return
    if source is not None or composed.config.baselines:
        raise HarkError(
            "data.train names stored features: leave out upstream=, and type baselines=[], which take the audio"
        )
    if not still(composed):
        raise HarkError(
            "data.train names stored features: leave out tune, spec_augment and augmentation, which take the audio"
        )


def heard(cfg: Classification, corpus: Corpus) -> int | None:
    """How many test utterances a hark run was pretrained on; None where that is not known."""
    pretrained = hark_run.pretraining(Path(cfg.upstream.path)) if cfg.upstream.path else None
    return None if pretrained is None else seen(corpus.test, pretrained.data)
