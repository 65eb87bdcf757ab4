"""Tables of lhotse -> manifest rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lhotse import CutSet, MonoCut, MultiCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet

from research.data.corpora.corpus import Row
from research.errors import HarkError


class Span(NamedTuple):
    """A stretch of a recording, with what is said in it."""

    id: str
    recording: Recording
    channel: int
    start: float  # s
    duration: float  # s
    said: Sequence[SupervisionSegment]


def leaves(result: Any, split: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Walk what a recipe returned, however nested: (split, its tables)."""
    if isinstance(result, Mapping):
        tables = [table for table in result.values() if not isinstance(table, Mapping)]
        for name, inner in result.items():
            if isinstance(inner, Mapping):
                yield from leaves(inner, f"{split}-{name}".strip("-"))
    else:
        tables = list(result) if isinstance(result, tuple) else [result]
    if tables:
        yield split, tables


def rows_of(recipe: str, split: str, tables: Sequence[Any]) -> list[Row]:
    """Rows of one split, by id; `kind` is the split."""
    found = [row(recipe, split, span) for span in spans(tables)]
    return sorted(found, key=lambda row: row["id"])


def spans(tables: Sequence[Any]) -> Iterator[Span]:
    """Give cuts where there are some, else what is supervised, else whole recordings."""
    recordings = {r.id: r for table in tables if isinstance(table, RecordingSet) for r in table}
    said = [s for table in tables if isinstance(table, SupervisionSet) for s in table]
    cuts = [cut for table in tables if isinstance(table, CutSet) for cut in table]
    if cuts:
        yield from map(of_cut, cuts)
    elif said:
        for s in said:
            yield Span(s.id, recordings[s.recording_id], first(s.channel), s.start, s.duration, [s])
    else:
        for r in recordings.values():
            yield Span(r.id, r, first(r.channel_ids), 0.0, r.duration, [])


def of_cut(cut: Any) -> Span:
    if not isinstance(cut, MonoCut | MultiCut):
        raise HarkError(f"cut {cut.id}: mixes several recordings; manifests hold one recording a line")
    return Span(cut.id, cut.recording, first(cut.channel), cut.start, cut.duration, cut.supervisions)


def first(channel: int | Sequence[int]) -> int:
    return channel if isinstance(channel, int) else channel[0]


def row(recipe: str, split: str, span: Span) -> Row:
    name = f"{split}-{span.id}".strip("-")
    start = {"offset": span.start} if span.start else {}
    return {
        "id": name,
        "audio_filepath": file_of(span),
        **start,
        "duration": min(span.duration, span.recording.duration - span.start),
        "text": " ".join(s.text for s in span.said if s.text),
        "lang": only(s.language for s in span.said),
        "speaker": only(s.speaker for s in span.said),
        "source": recipe,
        "kind": split,
        "word": "",
        "sr0": span.recording.sampling_rate,
        "digest": name,
    }


def only(values: Iterator[str | None]) -> str:
    """Give the value that all share, else nothing."""
    distinct = {value or "" for value in values}
    return distinct.pop() if len(distinct) == 1 else ""


def file_of(span: Span) -> str:
    """Give the file that holds the channel of a span."""
    for source in span.recording.sources:
        if source.type == "file" and span.channel in source.channels:
            return str(source.source)
    kinds = ", ".join(sorted({source.type for source in span.recording.sources}))
    raise HarkError(
        f"recording {span.recording.id}: its audio comes from '{kinds}', not from a file; convert it first"
    )
