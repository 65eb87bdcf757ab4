"""The tables of `hark probe`."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from research.evaluation.intervals import COVERS
from research.evaluation.records import PRETRAINED, RANDOM, Line

WIDE = 250  # characters of a line in a file


def show(written: Sequence[Line], left: Sequence[str] = ()) -> None:
    """Print, task by task, the headline of every probe for every representation, then what the numbers rest on."""
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    for task in dict.fromkeys(line["task"] for line in written):
        of_task = [line for line in written if line["task"] == task]
        scores = [line for line in of_task if line["kind"] == "score"]
        console.print(headline(scores[0]), highlight=False, soft_wrap=True)
        console.print(table([line for line in scores if line["headline"]]))
        for note in [*comparisons(of_task), *weights(scores), *notes(scores)]:
            console.print(note, highlight=False, soft_wrap=True)
    for note in [COVERS, *left]:
        console.print(note, highlight=False, soft_wrap=True)


def table(scores: Sequence[Line]) -> Table:
    """One row per layer, one column per probe."""
    columns = list(dict.fromkeys(line["probe"] for line in scores))
    titles = [title(scores, probe) for probe in columns]
    grid = Table("representation", "layer", "ms", *titles, box=SIMPLE)
    rows: dict[tuple[str, int | None, float], dict[str, Line]] = {}
    for line in scores:
        rows.setdefault((line["representation"], line["layer"], line["period"]), {})[line["probe"]] = line
    for (name, layer, period), cells in rows.items():
        shown = [interval(cells[probe]) if probe in cells else "" for probe in columns]
        grid.add_row(name, "" if layer is None else str(layer), f"{period * 1e3:g}", *shown)
    return grid


def headline(line: Line) -> str:
    """What was asked, and how often."""
    which = line["checkpoint"] if line["step"] is None else f"step {line['step']}"
    times = "once" if line["test_reads"] == 1 else f"{line['test_reads']} times"
    asked = f"its {line['n_test']['utterances']} test utterances were asked {times} of this checkpoint"
    return f"mini probe of {which}: {line['task']}; {asked}"


def title(scores: Sequence[Line], probe: str) -> str:
    first = next(line for line in scores if line["probe"] == probe)
    words = probe if probe == first["metric"] else f"{probe} {first['metric']}"
    return f"{words} (lower is better)" if first["falls"] else words


def interval(line: Line) -> str:
    return f"{line['mean']:.3f} [{line['low']:.3f}, {line['high']:.3f}]{'*' if line.get('chosen') else ''}"


def comparisons(written: Sequence[Line]) -> Iterator[str]:
    """Say, for every probe, whether pretraining taught more than architecture gives."""
    for line in written:
        if line["kind"] == "comparison":
            ours, theirs = (
                f"{name} layer {line[name]['layer']} {interval(line[name])}" for name in (PRETRAINED, RANDOM)
            )
            apart = "are disjoint" if line["disjoint"] else "overlap"
            better = PRETRAINED if line["pretrained_better"] else RANDOM
            yield f"{line['probe']} {line['metric']}: {ours}, {theirs}: intervals {apart}, {better} is better"


def weights(scores: Sequence[Line]) -> Iterator[str]:
    for line in scores:
        if line["headline"] and (learned := line.get("learned_weights")):
            pairs = zip(learned["layers"], learned["mean"], strict=True)
            shares = ", ".join(f"layer {layer} {weight:.2f}" for layer, weight in pairs)
            yield f"{line['probe']} {line['representation']} ({learned['meaning']}): {shares}"


def notes(scores: Sequence[Line]) -> Iterator[str]:
    """What the numbers of one task rest on."""
    first = scores[0]
    train, dev, test = (first[part]["utterances"] for part in ("n_train", "n_dev", "n_test"))
    heard = first["n_test"]["heard_in_pretraining"]
    others = (
        "utterances of a manifest of their own" if first["n_dev"]["manifest"] else "other training utterances"
    )
    yield (
        f"{first['n_seeds']} seeds, each with {train} training utterances of its own; * is the layer that {dev} "
        f"{others} chose; {test} test utterances, {'unknown how many' if heard is None else heard} of them heard "
        "(unlabelled) in pretraining"
    )
    for key, (both, asked) in first["n_test"]["in_training"].items():
        yield f"{both} of the test's {asked} {key}s are in training too"
    for key, text in first["split"].items():
        yield f"{key}: {', '.join(text) if isinstance(text, list) else text}"
    frames = {line["period"]: (line["n_train"]["frames"], line["n_test"]["frames"]) for line in scores}
    yield "; ".join(
        f"at {period * 1e3:g} ms {sum(learnt) // len(learnt)} training and {asked} test frames"
        for period, (learnt, asked) in frames.items()
    )
    for probe, mean in {
        line["probe"]: line["mean"] for line in scores if line["metric"] == "majority"
    }.items():
        yield f"{probe}: always saying the commonest label scores {mean:.3f}"
    for path, digest in first["manifests"].items():
        yield f"{path}: SHA-256 {digest[:12]}"
