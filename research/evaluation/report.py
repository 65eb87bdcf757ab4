"""The table of `hark probe`."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from research.evaluation.intervals import COVERS
from research.evaluation.records import PRETRAINED, RANDOM, Line


def show(written: Sequence[Line]) -> None:
    """Print the headline of every probe for every representation, then what the numbers rest on."""
    console = Console()
    scores = [line for line in written if line["kind"] == "score"]
    console.print(table([line for line in scores if line["headline"]]))
    for note in [*comparisons(written), *notes(scores)]:
        console.print(note, highlight=False, soft_wrap=True)


def table(scores: Sequence[Line]) -> Table:
    """One row per layer, one column per probe."""
    columns = list(dict.fromkeys(line["probe"] for line in scores))
    grid = Table("representation", "layer", "ms", *(title(scores, probe) for probe in columns), box=SIMPLE)
    rows: dict[tuple[str, int | None, float], dict[str, Line]] = {}
    for line in scores:
        rows.setdefault((line["representation"], line["layer"], line["period"]), {})[line["probe"]] = line
    for (name, layer, period), cells in rows.items():
        shown = [interval(cells[probe]) for probe in columns]
        grid.add_row(name, "" if layer is None else str(layer), f"{period * 1e3:g}", *shown)
    return grid


def title(scores: Sequence[Line], probe: str) -> str:
    metric = next(line["metric"] for line in scores if line["probe"] == probe)
    return probe if probe == metric else f"{probe} {metric}"


def interval(line: Line) -> str:
    return f"{line['mean']:.3f} [{line['low']:.3f}, {line['high']:.3f}]{'*' if line.get('chosen') else ''}"


def comparisons(written: Sequence[Line]) -> list[str]:
    """Say, for every probe, whether pretraining taught more than architecture gives."""
    said = []
    for line in written:
        if line["kind"] == "comparison":
            ours, theirs = (
                f"{name} layer {line[name]['layer']} {interval(line[name])}" for name in (PRETRAINED, RANDOM)
            )
            apart = "are disjoint" if line["disjoint"] else "overlap"
            higher = PRETRAINED if line["pretrained_higher"] else RANDOM
            said.append(f"{line['metric']}: {ours}, {theirs}: intervals {apart}, {higher} is higher")
    return said


def notes(scores: Sequence[Line]) -> list[str]:
    first = scores[0]
    train, dev, test = (first[part]["utterances"] for part in ("n_train", "n_dev", "n_test"))
    heard = first["n_test"]["heard_in_pretraining"]
    chance = {line["probe"]: line["mean"] for line in scores if line["metric"] == "majority"}
    frames = {line["period"]: (line["n_train"]["frames"], line["n_test"]["frames"]) for line in scores}
    which = first["checkpoint"] if first["step"] is None else f"step {first['step']}"
    setting = (
        f"{which}; {first['n_seeds']} seeds, each with {train} training utterances of its own; "
        f"* is the layer that {dev} other training utterances chose; {test} test utterances, "
        f"{'unknown how many' if heard is None else heard} of them heard (unlabelled) in pretraining"
    )
    sizes = [
        f"at {period * 1e3:g} ms {sum(learnt) // len(learnt)} training and {asked} test frames"
        for period, (learnt, asked) in frames.items()
    ]
    said = [f"{probe}: always saying the commonest label scores {mean:.3f}" for probe, mean in chance.items()]
    return [setting, "; ".join(sizes), *said, COVERS]
