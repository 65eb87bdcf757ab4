"""Plugins by name. Registering a class also gives Hydra its typed Config, so a plugin is one file."""

import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from research.contracts import Plugin
from research.errors import HarkError, nearest

P = TypeVar("P", bound=type[Plugin])

PARTS = (
    "objective",
    "encoder",
    "frontend",
    "quantizer",
    "masking",
    "augmentation",
)  # what a model is made of
KINDS = (*PARTS, "probe", "aggregation", "head", "criterion")
MACHINERY = ("<frozen ", importlib.__file__, __file__)  # what stands between `load_plugins` and a plugin

_classes: dict[type, type[Plugin]] = {}
_names: dict[tuple[str, str], Any] = {}  # (kind, name) -> config
_tried = set[str]()  # modules of plugins, once all of them have been imported or have failed
broken: dict[str, Exception] = {}  # modules that did not import


def register(name: str) -> Callable[[P], P]:
    """`@register("nest")` above an Objective makes `objective=nest` work on the command line."""

    def add(cls: P) -> P:
        if "Config" not in cls.__dict__:
            raise TypeError(f"{cls.__name__} needs a Config of its own")
        _classes[cls.Config] = cls
        preset(name, cls.Config())
        return cls

    return add


def preset(name: str, config: Plugin.Config) -> None:
    """Name a setting of a registered plugin: `preset("conformer_l", Conformer.Config(dim=512))`."""
    store(_classes[type(config)].kind, name, config)


def store(kind: str, name: str, config: Any) -> None:
    """Let `kind=name` choose a config, on the command line and in recipes."""
    if (kind, name) in _names:
        raise ValueError(f"{kind}={name} is registered twice")
    _names[kind, name] = config
    ConfigStore.instance().store(group=kind, name=name, node=config)


def names(kind: str) -> list[str]:
    return sorted(name for k, name in _names if k == kind)


def names_of(cls: type[Plugin]) -> list[str]:
    """Every name of a class, the one that it was registered under first."""
    return [name for (_, name), config in _names.items() if _classes.get(type(config)) is cls]


def config_of(kind: str, name: str) -> Any:
    """Give the config that `kind=name` stands for; HarkError with the nearest name when there is none."""
    if (kind, name) not in _names:
        known = names(kind)
        raise HarkError(f"no {kind} is called '{name}'{nearest(name, known)} (there are: {', '.join(known)})")
    return _names[kind, name]


def name_of(config: Any) -> str:
    """Give the name under which the plugin of a config was registered; presets of it come later."""
    return next(name for (_, name), known in _names.items() if type(known) is type(config))


def find(kind: str, name: str) -> Any:
    """Give the class behind `kind=name`."""
    return _classes[type(config_of(kind, name))]


def class_of(config: Plugin.Config) -> Any:
    """Give the class that a config is of."""
    return _classes[type(config)]


def build(config: Plugin.Config, **facts: Any) -> Any:
    """Make the object of a config: the only way from one to the other."""
    return class_of(config)(config, **facts)


def adjusted(kind: str, name: str, settings: dict[str, Any]) -> Any:
    """Give the config of `kind=name` with some other values, of `settings` by name; HarkError tells which cannot be."""
    structure = OmegaConf.structured(config_of(kind, name))
    try:
        return OmegaConf.to_object(OmegaConf.merge(structure, settings.get(name) or {}))
    except OmegaConfBaseException as error:
        raise HarkError(f"{kind}.settings.{name}: {str(error).splitlines()[0]}") from None


def spelled_out(kind: str, parts: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with every value of every part, so that a run's config says all that it computes.

    Before all plugins are there nothing is added: what is registered says no more than its author. HarkError for settings
    of what is no part, unless they only say what is registered anyway: those of parts that others have replaced.
    """
    if not _tried:
        return settings
    for name, values in settings.items():
        if name not in parts and values != written(kind, name, {}):
            hint = nearest(name, parts)
            raise HarkError(f"{kind}.settings.{name}: '{name}' is none of {kind}.parts{hint}")
    kept = {name: values for name, values in settings.items() if name in parts}
    return kept | {name: written(kind, name, settings) for name in parts if (kind, name) in _names}


def written(kind: str, name: str, settings: dict[str, Any]) -> Any:
    """Give `adjusted` as plain values, enums by name; nothing where nothing is registered."""
    if (kind, name) not in _names:
        return None
    return OmegaConf.to_container(OmegaConf.structured(adjusted(kind, name, settings)), enum_to_str=True)


def outside() -> list[str]:
    """Names of the modules that hold further plugins: the `hark.plugins` entry points, and $HARK_PLUGINS."""
    return [point.module for point in entry_points(group="hark.plugins")] + named()


def named() -> list[str]:
    """Names of the modules of $HARK_PLUGINS; a word may be a file: `some/mine.py` is the module `mine`."""
    words = os.environ.get("HARK_PLUGINS", "").split(",")
    return [module_of(Path(word)) if word.endswith(".py") else word for word in words if word]


def module_of(file: Path) -> str:
    """Let a file be imported by its name, from its folder; HarkError when it is not there, or another has the name."""
    path = file.absolute()
    if not path.is_file():
        raise HarkError(f"HARK_PLUGINS={file}: no such file")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = find_spec(path.stem)
    if spec is None or spec.origin is None or not path.samefile(spec.origin):
        there = spec.origin if spec else "nothing"
        raise HarkError(f"{file}: `import {path.stem}` gives {there}; call the file by another name")
    return path.stem


def home() -> Path:
    """The folder whose plugins are found by themselves."""
    import plugins  # noqa: PLC0415  the only place that knows it

    return Path(plugins.__path__[0]).resolve()


def load_plugins() -> None:
    """Import plugins/*/*.py, and those outside; HarkError for a file of $HARK_PLUGINS that cannot be one."""
    modules = [m.name for m in pkgutil.walk_packages([str(home())], f"{home().name}.") if not m.ispkg]
    for module in modules + outside():
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  a colleague's missing dependency must not stop this run
            broken[module] = error
    _tried.update(modules)


def skipped() -> list[str]:
    """One line for each module that did not import: its name, where it stopped, and why."""
    return [f"{module}{place(error)}: {type(error).__name__}: {error}" for module, error in broken.items()]


def place(error: Exception) -> str:
    """` (file:line)` of the plugin that did not import; nothing when there is no such module."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(MACHINERY)]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
