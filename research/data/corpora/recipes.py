"""Any corpus that lhotse has a recipe for: downloaded where the recipe can, prepared, told as manifests."""

import inspect
import json
import traceback
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from research.data.corpora.corpus import Part, Row, Splits, finish, making
from research.errors import HarkError, nearest

Recipe = Callable[..., Any]  # a `prepare_*` or `download_*` function of lhotse

LICENCES = """# Licences

The corpus of lhotse's recipe `{recipe}`, in {corpus}. Its own terms apply; the recipe says:

````text
{about}
````
"""


def prepare(recipe: str, options: Mapping[str, str], corpus: Path | None, out: Path) -> Path:
    """Write manifest.jsonl, and one manifest per split, for a lhotse recipe; give the folder `out`.

    With `corpus` that folder is prepared; else the recipe downloads to `out/download` first, going on where an
    earlier try stopped. `options` go to whichever of the recipe's two functions has a parameter of that name.
    Audio stays where it is; readers average the channels of a file. HarkError tells what failed, and where.
    """
    from research.data.corpora.spans import leaves, rows_of  # noqa: PLC0415  lhotse takes seconds

    make, download = find(recipe)
    used = [make] if corpus or not download else [make, download]
    check(recipe, options, used)
    with making(out):
        if corpus is None:
            corpus = fetch(recipe, download, out / "download", options)
        corpus = corpus.resolve()
        result = call(f"{recipe}: {corpus} cannot be prepared", make, arguments(make, options, corpus, out))
        rows = [
            row
            for split, tables in sorted(leaves(result), key=itemgetter(0))
            for row in rows_of(recipe, split, tables)
        ]
        if not rows:
            raise HarkError(f"{recipe}: lhotse found no audio in {corpus}")
        about = inspect.getdoc(inspect.getmodule(make)) or "(nothing)"
        licences = LICENCES.format(recipe=recipe, corpus=corpus, about=about)
        inputs = {"recipe": recipe, "corpus": str(corpus), "options": dict(options)}
        finish(out, inputs=inputs, parts=[Part(rows)], licences=licences, split=by_kind)
    return out


def find(recipe: str) -> tuple[Recipe, Recipe | None]:
    """Give what prepares the corpus and, where there is one, what downloads it."""
    from lhotse import recipes  # noqa: PLC0415  lhotse takes seconds

    known = [name.removeprefix("prepare_") for name in dir(recipes) if name.startswith("prepare_")]
    if recipe not in known:
        raise HarkError(
            f"lhotse has no recipe '{recipe}'{nearest(recipe, known)} (there are: {', '.join(known)})"
        )
    return getattr(recipes, f"prepare_{recipe}"), getattr(recipes, f"download_{recipe}", None)


def check(recipe: str, options: Mapping[str, str], functions: list[Recipe]) -> None:
    known = {name for function in functions for name in inspect.signature(function).parameters}
    for key in options:
        if key not in known:
            raise HarkError(
                f"{key}={options[key]}: recipe {recipe} has no option '{key}'{nearest(key, known)} "
                f"(there are: {', '.join(sorted(known))})"
            )


def accepted(function: Recipe, options: Mapping[str, str]) -> dict[str, Any]:
    """Give the options a function has, as JSON where they read as JSON and the function does not ask for text."""
    parameters = inspect.signature(function).parameters
    return {
        key: text if parameters[key].annotation is str else value_of(text)
        for key, text in options.items()
        if key in parameters
    }


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def arguments(make: Recipe, options: Mapping[str, str], corpus: Path, out: Path) -> dict[str, Any]:
    """Complete the options by the corpus folder and, for recipes that insist on one, an output folder."""
    parameters = inspect.signature(make).parameters
    folder = "corpus_dir" if "corpus_dir" in parameters else next(iter(parameters))
    output = parameters.get("output_dir")
    needed = {"output_dir": out / "lhotse"} if output and output.default is output.empty else {}
    return {folder: corpus} | needed | accepted(make, options)


def fetch(recipe: str, download: Recipe | None, folder: Path, options: Mapping[str, str]) -> Path:
    if download is None:
        raise HarkError(
            f"{recipe}: lhotse cannot download it; get the corpus and name its folder: --corpus DIR"
        )
    target = next(
        name for name in inspect.signature(download).parameters if name in ("target_dir", "corpus_dir")
    )
    problem = f"{recipe}: the download failed (a corpus that is here already: --corpus DIR)"
    return Path(call(problem, download, {target: folder} | accepted(download, options)) or folder)


def call(problem: str, function: Recipe, arguments: Mapping[str, Any]) -> Any:
    """Call into lhotse; whatever it raises becomes one line that starts with `problem`."""
    try:
        return function(**arguments)
    except Exception as error:
        line = traceback.extract_tb(error.__traceback__)[-1].line or ""  # a bare assert says nothing else
        told = [*str(error).strip().splitlines(), line]
        raise HarkError(f"{problem}: {type(error).__name__}: {told[0]}") from error


def by_kind(rows: list[Row]) -> Splits:
    """One manifest per split that the recipe names."""
    kinds = sorted({row["kind"] for row in rows} - {""})
    return {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
