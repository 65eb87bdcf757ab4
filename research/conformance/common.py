"""What holds for every plugin."""

import tempfile

import torch
from omegaconf import OmegaConf

from research import registry, runs
from research.compose import compose_config
from research.config import Config
from research.conformance.case import FACTS, Case
from research.conformance.rules import Broken, crash
from research.errors import HarkError
from research.model import check


def builds_at_full_size(case: Case) -> None:
    """It builds as registered, on a device without memory.

    Configs are tried on a login node before a job is queued, where the real size would not fit.
    """
    try:
        if case.kind in registry.PARTS:
            others = [o for o in case.cls.example if not o.startswith(f"{case.kind}.")]
            config = compose_config(["data.train=[]", f"{case.kind}={case.name}", *others]).config
            build_alone(config) if case.kind == "augmentation" else check(config)
        else:
            with torch.device("meta"):
                registry.build(registry.config_of(case.kind, case.name), **FACTS.get(case.kind, {}))
    except HarkError:
        raise
    except Exception as error:
        raise Broken(
            f"{crash(error)}. Configs are checked on torch's meta device: read no values in __init__"
        ) from error


def build_alone(config: Config) -> None:
    """Build an augmentation without a model: not every one goes with an objective."""
    with torch.device("meta"):
        registry.build(config.augmentation)


def config_reads_back(case: Case) -> None:
    """The config that a run leaves behind reads back as the same run.

    A run is resumed, and known as the same run, by the config in its folder.
    """
    if case.kind not in registry.PARTS:
        reads_back_alone(case)
        return
    with tempfile.TemporaryDirectory() as folder:
        composed = compose_config(["data.train=[]", f"{case.kind}={case.name}", f"run.folder={folder}"])
        path = runs.create(composed.config, composed.choices, composed.overrides)
        again = runs.load_config(path)
    if getattr(again, case.kind) != getattr(composed.config, case.kind):
        raise Broken(
            "config.yaml reads back as other values, so a run would not resume as itself: give every field a type that "
            "YAML and OmegaConf know (numbers, str, bool, Enum, lists, dataclasses), never Any"
        )


def reads_back_alone(case: Case) -> None:
    """The same for a plugin that is part of no pretraining: its own config, written and read."""
    config = registry.config_of(case.kind, case.name)
    written = OmegaConf.to_yaml(OmegaConf.structured(config))
    if (
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(type(config)), OmegaConf.create(written)))
        != config
    ):
        raise Broken(
            "its config reads back as other values: give every field a type that YAML and OmegaConf know"
        )


def refuses_to_build(case: Case) -> None:
    """A placeholder refuses to be built, and says what to type instead.

    Who leaves a part out that the objective needs is to be told, not to train without it.
    """
    try:
        case.plugin(dim_in=8)
    except HarkError:
        return
    raise Broken("it defines no forward, yet it builds: raise HarkError in __init__, or define forward")
