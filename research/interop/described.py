"""Configs of a frontend and an encoder as plain values that any file can hold, and back."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from research import registry
from research.contracts import Encoder, Frontend
from research.errors import HarkError


def describe(frontend: Any, encoder: Any) -> dict[str, Any]:
    """Give what config.yaml of a run says of two configs: `plugins` with their names, and a section for each."""
    parts = {"frontend": frontend, "encoder": encoder}
    names = {kind: registry.name_of(config) for kind, config in parts.items()}
    return {"plugins": names} | {kind: plain(config) for kind, config in parts.items()}


def plain(config: Any) -> Any:
    return OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)


def configs(values: Mapping[str, Any]) -> tuple[Frontend.Config, Encoder.Config]:
    """Give the configs that `describe` described; HarkError names the plugin or option that hark has not."""
    registry.load_plugins()
    found = []
    for kind in ("frontend", "encoder"):
        try:
            config = registry.config_of(kind, values["plugins"][kind])
            found.append(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config), values[kind])))
        except (KeyError, TypeError):
            raise HarkError(f"{kind}: is not described") from None
        except OmegaConfBaseException as error:
            raise HarkError(f"{kind}: {str(error).splitlines()[0]}") from None
    frontend, encoder = found
    assert isinstance(frontend, Frontend.Config)
    assert isinstance(encoder, Encoder.Config)
    return frontend, encoder
