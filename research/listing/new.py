"""`hark new`: write a plugin to start from."""

import keyword
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

from research import registry
from research.errors import HarkError, nearest
from research.files import write

TEMPLATES = Path(__file__).parent / "templates"
KINDS = tuple(kind for kind in registry.KINDS if (TEMPLATES / f"{kind}.py").is_file())
DATA = "data.train=[data/debspeech-mini/train.jsonl]"


def new(kind: str, name: str, folder: Path) -> int:
    """Write a plugin of this kind and name into a folder, and print what to type next; HarkError: it cannot be one."""
    file = folder / f"{name}.py"
    refuse(kind, name, file)
    code = (TEMPLATES / f"{kind}.py").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    write(file, code.replace('"starter"', f'"{name}"').replace("Starter", camel(name)))
    print(f"{file}: {kind}={name}, to start from. Next:\n")
    if folder.resolve().parent != registry.home():
        print(f"  export HARK_PLUGINS={shlex.quote(str(file.absolute()))}")
    print(f"  hark check {kind}={name}")
    print(f"  hark train {kind}={name}{'' if kind == 'encoder' else ' encoder=fastconformer_tiny'} {DATA}")
    return 0


def refuse(kind: str, name: str, file: Path) -> None:
    """HarkError where no such plugin can be written."""
    if kind not in KINDS:
        raise HarkError(f"no template of '{kind}'{nearest(kind, KINDS)} (there are: {', '.join(KINDS)})")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise HarkError(f"'{name}': a plugin is called by small letters, digits and _, as in 'my_{kind}'")
    if file.exists():
        raise HarkError(f"{file}: is there already; choose another name, or --out")
    registry.load_plugins()
    if name in registry.names(kind):
        raise HarkError(f"{kind}={name} is there already, in {registry.find(kind, name).__module__}")
    if find_spec(name) is not None:
        raise HarkError(
            f"'{name}': `import {name}` gives another module; choose another name, as 'my_{name}'"
        )


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))
