"""Overrides -> typed Config, by Hydra; every mistake becomes one line that names the key."""

import copy
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType, Quote, QuotedString
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from research import registry
from research.config import Config, Data, Training
from research.errors import HarkError, nearest

SWEEPS = Path(__file__).parents[1] / "sweeps"
RECIPES = ("experiment", "classify", "cluster", "sweep")  # its subfolders
OWN = "HARK_CONFIG_DIR"  # environment: a folder of the user's, with subfolders as in sweeps/

R = TypeVar("R", bound=Training)


@dataclass
class Composed(Generic[R]):
    """A config, with what was typed to get it."""

    config: R
    choices: dict[str, str]  # plugin kind, or schedule -> name
    overrides: list[str]


def folders() -> list[Path]:
    """Folders of recipes, the user's own first: of two files with one name, the first counts."""
    typed = os.environ.get(OWN, "")
    if not typed:
        return [SWEEPS]
    own = Path(typed).expanduser().absolute()
    if not own.is_dir():
        raise HarkError(f"--config-dir={typed}: no such folder (--config-dir, or ${OWN}, names it)")
    return [own, SWEEPS]


def recipes(kind: str) -> dict[str, Path]:
    """Give every recipe of a kind (experiment, classify, cluster, sweep): name -> file."""
    found = {path.stem: path for folder in reversed(folders()) for path in (folder / kind).glob("*.yaml")}
    return dict(sorted(found.items()))


def choices_of(root: type[Training]) -> list[str]:
    """Plugin kinds, `schedule` and `data`, of which a root config holds one each."""
    groups = {group for choice in vars(root())["defaults"] if isinstance(choice, dict) for group in choice}
    return [item.name for item in fields(root) if item.name in groups and registry.names(item.name)]


def groups(root: type[Training]) -> dict[str, list[str]]:
    """Give every group that an override can choose from, with its names: plugins, and folders of recipes."""
    known = {}
    for choice in vars(root())["defaults"]:
        for group in choice if isinstance(choice, dict) else ():
            known[group] = registry.names(group) or list(recipes(group))
    return known


def keys(config_class: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key under a dataclass or an instance of one."""
    for item in fields(config_class):
        value = getattr(config_class, item.name, None)
        inner = value if is_dataclass(value) else item.type
        if is_dataclass(inner):
            yield from keys(inner, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}"


def check_group(override: str, group: str, name: Any, known: Mapping[str, list[str]]) -> None:
    if name not in known[group] and name is not None:
        there = ", ".join(known[group]) or "none"
        hint = nearest(str(name), known[group])
        raise HarkError(f"{override}: no {group} is called '{name}'{hint} (there are: {there})")


def check_overrides(root: type[Training], overrides: Sequence[str]) -> None:
    """Refuse unknown groups, names and sections before Hydra does, in plainer words."""
    known = groups(root)
    sections = [item.name for item in fields(root) if item.name != "defaults"]
    for override in overrides:
        try:
            parsed = OverridesParser.create().parse_override(override)
        except (OverrideParseException, HydraException):
            raise HarkError(f"{override}: an override reads key=value") from None
        key = parsed.key_or_group
        if key in known:
            check_group(override, key, parsed.value(), known)
        elif "." not in key and key not in sections:
            raise HarkError(f"{override}: unknown key '{key}'{nearest(key, [*known, *sections])}")


def compose_config(overrides: Sequence[str]) -> Composed[Config]:
    """Compose the config of a pretraining; HarkError names the key or value that is wrong."""
    return compose_root(Config, overrides)


def compose_root(root: type[R], overrides: Sequence[str]) -> Composed[R]:
    """Compose a root config, which Hydra's store holds under its name in small letters; HarkError as above."""
    return Variants(root, overrides).compose()


class Variants(Generic[R]):
    """Configs that differ in values only: Hydra composes what they share, once, and each sets its values on a copy.

    Hydra sets values last as well, in the order in which they are typed: the configs are those of `compose_root`.
    """

    def __init__(self, root: type[R], overrides: Sequence[str]) -> None:
        """Compose what is shared; HarkError as above."""
        self.root, self.overrides = root, list(overrides)
        registry.load_plugins()
        self.groups = list(groups(root))
        check_overrides(root, overrides)
        main, *others = folders()
        paths = ",".join(QuotedString(f"file://{path}", Quote.single).with_quotes() for path in others)
        try:
            with initialize_config_dir(str(main), version_base="1.3", job_name="hark"):
                typed = [*overrides, f"hydra.searchpath=[{paths}]"]
                raw = compose(root.__name__.lower(), typed, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise HarkError(explain(root, error, overrides)) from None
        self.choices = {kind: str(raw.hydra.runtime.choices[kind]) for kind in choices_of(root)}
        with open_dict(raw):
            raw.pop("hydra")
        self.raw = raw

    def compose(self, values: Sequence[str] = ()) -> Composed[R]:
        """Compose one of them, `values` typed behind what is shared; HarkError as above."""
        overrides = [*self.overrides, *values]
        check_overrides(self.root, values)
        raw = copy.deepcopy(self.raw)
        try:
            for value in values:
                put(raw, value, self.groups)
            config = OmegaConf.to_object(raw)
        except (HydraException, OmegaConfBaseException) as error:
            if values:  # Hydra knows what else it can be, and tells what is wrong
                return Variants(self.root, overrides).compose()
            raise HarkError(explain(self.root, error, overrides)) from None
        assert isinstance(config, self.root)
        read_bins(config.data)
        return Composed(config, dict(self.choices), overrides)


def put(raw: DictConfig, override: str, groups: Collection[str]) -> None:
    """Set one value as Hydra does; an error of Hydra or OmegaConf when it is wrong, or more than a value."""
    parsed = OverridesParser.create().parse_override(override)
    key, plain = parsed.key_or_group, parsed.type is OverrideType.CHANGE and parsed.package is None
    if not plain or parsed.is_sweep_override() or key in groups:
        raise HydraException(f"{override}: not a plain value")
    OmegaConf.update(raw, key, parsed.value(), merge=True)


def read_bins(data: Data) -> None:
    """Put what the file `data.bins` says into `bounds` and `sizes`: what is computed depends on them, not on a path."""
    if not data.bins:
        return
    if data.bounds or data.sizes:
        raise HarkError(
            f"data.bins={data.bins}: holds bounds and sizes; leave out data.bounds and data.sizes"
        )
    try:
        found = yaml.safe_load(Path(data.bins).read_text())
        data.bounds = [float(bound) for bound in found["bounds"]]
        data.sizes = [int(size) for size in found.get("sizes") or []]
    except OSError as error:
        raise HarkError(f"data.bins={data.bins}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        data.bounds = []
    if not data.bounds:
        raise HarkError(f"data.bins={data.bins}: does not hold bounds; `hark bins --out FILE` writes them")
    if data.sizes and len(data.sizes) != len(data.bounds):
        raise HarkError(
            f"data.bins={data.bins}: holds {len(data.bounds)} bounds, but {len(data.sizes)} sizes"
        )


def explain(root: type[Training], error: Exception, overrides: Sequence[str]) -> str:
    """Tell an error of Hydra or OmegaConf in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    line = _first_line(cause)
    for override in overrides:
        key = override.lstrip("+~").split("=", 1)[0]
        if f"'{key}'" in str(error) or override in str(error):
            known = [*keys(root), *_plugin_keys(root, overrides)]
            hint = nearest(key, known) if "not in" in line or "not in struct" in str(error) else ""
            return f"{override}: {line}{hint}"
    return line


def _plugin_keys(root: type[Training], overrides: Sequence[str]) -> Iterator[str]:
    """Keys of the plugins that the overrides choose, and of all others of a kind that is left to its default."""
    chosen = dict(o.split("=", 1) for o in overrides if "=" in o)
    for kind in choices_of(root):
        for name in [chosen[kind]] if kind in chosen else registry.names(kind):
            yield from keys(registry.config_of(kind, name), f"{kind}.")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
