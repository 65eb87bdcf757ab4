"""Options of config.json and of hark's configs, translated by one table in both directions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from research import registry
from research.contracts import Encoder, Frontend
from research.errors import HarkError
from research.interop.report import Entry, Fate
from research.model import Upstream

Convert = Callable[[Any], Any]


def same(value: Any) -> Any:
    return value


def some(value: int) -> int:
    """One or more; ValueError for 0."""
    if value < 1:
        raise ValueError
    return value


@dataclass(frozen=True)
class Option:
    """An option that both have."""

    field: str  # hark's key: "encoder.dim"
    default: Any  # theirs, where config.json is silent
    read: Convert = same  # KeyError or ValueError: hark has no such value
    write: Convert = same


@dataclass(frozen=True)
class Dialect:
    """How one `model_type` says what hark says."""

    model_type: str
    frontend: str  # the plugins that compute it
    encoder: str
    options: Mapping[str, Option]
    only: Mapping[str, Any]  # options of which hark has one value
    implied: Mapping[str, Any]  # hark's options on which this kind leaves no choice: key -> value
    owner: str = "Hugging Face's"

    def read(self, values: Mapping[str, Any]) -> tuple[Frontend.Config, Encoder.Config, list[Entry]]:
        """Translate a config.json; HarkError names the first option that hark lacks."""
        entries = []
        chosen = dict(self.implied)
        for key, wanted in self.only.items():
            if values.get(key, wanted) != wanted:
                raise HarkError(f"{key}={values[key]}: hark has {key}={wanted} only")
        for key, option in self.options.items():
            value = values.get(key, option.default)
            try:
                chosen[option.field] = option.read(value)
            except (KeyError, TypeError, ValueError):
                raise HarkError(f"{key}={value}: hark has no such {option.field}") from None
            entries.append(Entry(key, Fate.used, f"{option.field}={shown(chosen[option.field])}"))
        entries += [Entry(key, Fate.used, "what hark does") for key in self.only if key in values]
        known = self.options.keys() | self.only.keys()
        entries += [Entry(key, Fate.ignored, "not of the encoder") for key in values if key not in known]
        return make("frontend", self.frontend, chosen), make("encoder", self.encoder, chosen), entries

    def write(self, upstream: Upstream, harmless: Mapping[str, str]) -> tuple[dict[str, Any], list[Entry]]:
        """Give the config.json of an upstream, and an entry for every option of hark's.

        HarkError names the first one that this `model_type` cannot express; `harmless` ones may get lost, and why.
        """
        mine = chosen_by(upstream)
        values = {"model_type": self.model_type, **self.only}
        for key, option in self.options.items():
            try:
                values[key] = option.write(mine[option.field])
            except (KeyError, ValueError):
                raise HarkError(self.lacks(option.field, mine[option.field])) from None
        frontend, encoder, _ = self.read(values)
        entries = []
        for key, value in read_back(frontend, encoder).items():
            if listed(value) == listed(mine[key]):
                entries.append(Entry(key, Fate.used, "told by config.json"))
            elif key in harmless:
                entries.append(Entry(key, Fate.ignored, harmless[key]))
            else:
                raise HarkError(self.lacks(key, mine[key]))
        return values, entries

    def lacks(self, key: str, value: Any) -> str:
        return f"{key}={shown(value)}: {self.owner} {self.model_type} cannot express it; export to another format"


def shown(value: Any) -> Any:
    return getattr(value, "name", value)


def make(kind: str, name: str, chosen: Mapping[str, Any]) -> Any:
    """Give the config of a plugin with the options `kind.*`."""
    own = {key.split(".", 1)[1]: value for key, value in chosen.items() if key.startswith(f"{kind}.")}
    return replace(registry.config_of(kind, name), **own)


def chosen_by(upstream: Upstream) -> dict[str, Any]:
    """Give every option of an upstream by its key."""
    return read_back(upstream.frontend.cfg, upstream.encoder.cfg)


def listed(value: Any) -> Any:
    """A config that was read from a file has lists where its class has tuples."""
    return list(value) if isinstance(value, tuple) else value


def read_back(frontend: Any, encoder: Any) -> dict[str, Any]:
    configs = {"frontend": frontend, "encoder": encoder}
    return {
        f"{kind}.{item.name}": getattr(config, item.name)
        for kind, config in configs.items()
        for item in fields(config)
    }
