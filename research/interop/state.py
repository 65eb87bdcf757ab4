"""hark's own plain file: all tensors in one safetensors, whose header describes frontend and encoder."""

from pathlib import Path

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from research import files
from research.errors import HarkError
from research.interop.described import configs, describe
from research.interop.source import Source

ENDING, HEADER = ".safetensors", "hark"


def find(path: Path) -> bool:
    """Whether a path looks like such a file."""
    return path.suffix == ENDING and path.is_file()


def write(source: Source, out: Path) -> None:
    """Write `out` and, to be read by people, what its header says as .yaml beside it; whole or not at all."""
    if out.suffix != ENDING:
        raise HarkError(f"{out}: a state ends in {ENDING}")
    text = yaml.safe_dump(describe(source.frontend, source.encoder), sort_keys=False)
    state = {name: value.detach().cpu().contiguous() for name, value in source.state.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    save_file(state, part, {"format": "pt", HEADER: text})
    files.write(out.with_suffix(".yaml"), text)
    part.replace(out)


def read(path: Path) -> Source:
    """Read a file that `write` wrote; HarkError when it is another, or damaged."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(HEADER)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError) as error:
        raise HarkError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if text is None:
        raise HarkError(
            f"{path}: its header does not say what model it is; give a file of `hark export --to state`"
        )
    try:
        frontend, encoder = configs(yaml.safe_load(text))
    except HarkError as error:
        raise HarkError(f"{path}: {error}") from None
    return Source(path, "hark state", frontend, encoder, state)
