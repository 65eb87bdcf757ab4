"""`hark classify`: every representation under every seed is trained, chosen on `valid`, and tested once."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from research import runs
from research.classification.answers import Record, answer, recorded
from research.classification.config import Classification, Labelled
from research.classification.data import Corpus, Supervised
from research.classification.representations import Origins, from_store, stored
from research.classification.task import Classifier, classifier
from research.classification.trials import compare
from research.compose import Composed
from research.data.manifest import load
from research.engine.compiled import compile_blocks
from research.engine.gangs import Ranks
from research.engine.weights import load_model, steps
from research.errors import HarkError
from research.evaluation.records import PRETRAINED, RANDOM
from research.model import Upstream
from research.training.loop import Run
from research.training.signals import StopFlag


class StoppedError(Exception):
    """A signal ended a run; `code` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Chosen:
    """What `valid` says of a run."""

    value: float  # the lower the better
    step: int
    cfg: Classification


@dataclass
class Experiment:
    """One task on one upstream, in the folder `path`."""

    composed: Composed[Classification]
    path: Path
    ranks: Ranks
    flag: StopFlag
    corpus: Corpus
    origins: Origins
    heard: int | None = None  # test utterances that pretraining heard; None: unknown

    @property
    def cfg(self) -> Classification:
        return self.composed.config

    def go(self) -> list[Record]:
        """Do what is not done yet; all records. StoppedError after a signal."""
        if self.ranks.rank == 0:
            self.corpus.vocabulary.save(self.path / "labels.json")
        seeds = range(self.cfg.run.seed, self.cfg.run.seed + self.cfg.seeds)
        return [
            record
            for name in dict.fromkeys([PRETRAINED, *self.cfg.baselines])
            for record in self.representation(name, list(seeds))
        ]

    def representation(self, name: str, seeds: list[int]) -> Iterator[Record]:
        """The records of all seeds. What no seed changes is computed once for all of them."""
        files = {seed: self.path / "tests" / f"{name}-seed{seed}.json" for seed in seeds}
        done = {seed: recorded(file, self.corpus) for seed, file in files.items()}
        todo = [seed for seed in seeds if done[seed] is None]
        for group in [[seed] for seed in todo] if name == RANDOM else [todo] * bool(todo):
            with ExitStack() as held:
                view = self.view(name, group[0], held)
                for seed in group:
                    record = view.test(seed, self.choose(view, seed))
                    if self.ranks.rank == 0:
                        record.save(files[seed])
            self.ranks.barrier()
        for seed in seeds:
            found = done[seed] or recorded(files[seed], self.corpus)
            assert found is not None
            yield found

    def view(self, name: str, seed: int, held: ExitStack) -> "View":
        """Open a representation: its features are computed beforehand where no step of training changes them."""
        cfg = self.cfg
        if self.corpus.train.stored:
            instead: Upstream = from_store(self.corpus.train)
            return View(self, name, self.origins.layers(name, instead.layers), cfg.data, instead)
        upstream = self.origins.upstream(name, seed)
        layers = self.origins.layers(name, upstream.layers)
        if not still(self.composed):
            return View(self, name, layers, cfg.data, None)
        out = self.path / "features" / (f"{name}-seed{seed}" if name == RANDOM else name)
        instead, data = held.enter_context(stored(upstream, layers, cfg.data, out, self.ranks))
        if self.flag.signal is not None:
            raise StoppedError(128 + self.flag.signal)
        return View(self, name, layers, data, instead)

    def choose(self, view: "View", seed: int) -> Chosen:
        """Train with every learning rate; the run and the checkpoint that are best on `valid`."""
        found = [view.train(seed, lr) for lr in self.cfg.lr_grid or [self.cfg.optimizer.lr]]
        return min(found, key=lambda one: one.value)


def still(composed: Composed[Classification]) -> bool:
    """Whether no step of training changes what the head reads."""
    cfg = composed.config
    masked = cfg.spec_augment.freq_masks + cfg.spec_augment.time_masks > 0
    return not masked and cfg.tune.start is None and composed.choices["augmentation"] == "none"


@dataclass
class View:
    """One representation of the data: manifests, and the upstream for them, if it is not to be opened each time."""

    of: Experiment
    name: str
    layers: tuple[int, ...]
    data: Labelled
    upstream: Upstream | None

    def config(self, seed: int, lr: float) -> Classification:
        """Give the config of one run, which lies in the folder of the whole."""
        cfg = self.of.cfg
        return replace(
            cfg,
            representation=self.name,
            lr_grid=[],
            run=replace(
                cfg.run, seed=seed, name=f"{self.name}-seed{seed}-lr{lr:g}", folder=str(self.of.path)
            ),
            optimizer=replace(cfg.optimizer, lr=lr),
        )

    def task(self, cfg: Classification) -> Classifier:
        upstream = self.upstream or self.of.origins.upstream(self.name, cfg.run.seed)
        if cfg.train.compile and self.upstream is None:
            compile_blocks(upstream)
        names = self.of.corpus.vocabulary.names
        return classifier(cfg, upstream.to(self.of.ranks.device), self.layers, len(names))

    def train(self, seed: int, lr: float) -> Chosen:
        """Train one run, or go on with it; StoppedError after a signal."""
        cfg, of = self.config(seed, lr), self.of
        path = runs.folder(cfg)
        if of.ranks.rank == 0:
            runs.create(cfg, of.composed.choices, of.composed.overrides)
        of.ranks.barrier()
        source = Supervised(replace(cfg, data=self.data), of.ranks, of.corpus.vocabulary)
        code = Run(cfg, path, of.ranks, of.flag, task=self.task(cfg), source=source).go()
        if code:
            raise StoppedError(code)
        return best(cfg, path)

    def test(self, seed: int, chosen: Chosen) -> Record:
        """Read the test, for the first and only time."""
        of, cfg = self.of, chosen.cfg
        path = runs.folder(cfg)
        task = self.task(cfg).to(of.ranks.device)
        task.load_state_dict(load_model(path / "checkpoints" / f"step_{chosen.step}"))
        test = load(self.data.test, self.data)
        if len(test) != len(of.corpus.truth):
            lost = len(of.corpus.truth) - len(test)
            raise HarkError(
                f"data.test: {lost} utterances could not be read; every one of them is to be scored"
            )
        labels, embeddings = answer(
            task, test, self.data, blank=len(of.corpus.vocabulary.names), device=of.ranks.device
        )
        weights = getattr(task.aggregation, "weights", None)
        return Record(
            representation=self.name,
            seed=seed,
            run=path.name,
            lr=cfg.optimizer.lr,
            step=chosen.step,
            dev=chosen.value,
            manifests=of.corpus.digests,
            answers=labels,
            weights=None if weights is None else weights.tolist(),
            layers=list(self.layers),
            trials=compare(cfg.data.trials, of.corpus.test, embeddings),
        )


def best(cfg: Classification, path: Path) -> Chosen:
    """Choose among the checkpoints that were validated and kept; the first where several are equally good."""
    kept = set(steps(path / "checkpoints"))
    values = {
        record["step"]: record[cfg.checkpoint.best]
        for record in runs.read_jsonl(path / "metrics.jsonl")
        if record["split"] == "valid" and record["step"] in kept
    }
    if not values:
        raise HarkError(
            f"{path}: no checkpoint that was kept was validated; let checkpoint.every={cfg.checkpoint.every} be a multiple "
            f"of train.validate_every={cfg.train.validate_every}"
        )
    step = min(values, key=lambda number: (values[number], number))
    return Chosen(values[step], step, cfg)
