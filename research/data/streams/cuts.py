"""Lines of lhotse's CutSets: audio where the cut's recording says, or in a Shar."""

from typing import Any

from research.data.entry import as_object, digest, number
from research.data.streams.clip import Format
from research.data.streams.lines import PLAIN, Facts, Kind

TYPES = ("MonoCut", "MultiCut", "MixedCut", "PaddingCut", "Cut")


def plain(line: bytes, _folder: str) -> Facts:
    """Check a cut whose recordings lie in files."""
    found = as_object(line)
    facts = check(found)
    if isinstance(facts, str):
        return facts
    recordings = [cut["recording"] for cut in parts(found) if cut.get("recording")]
    if not recordings:
        return "without a recording"
    try:
        kinds = {source["type"] for recording in recordings for source in recording["sources"]}
    except (KeyError, TypeError):
        raise ValueError("has a recording without sources") from None
    if "shar" in kinds:
        raise ValueError("has its audio in a Shar; name the folder where the cuts and recording.*.tar are")
    return facts


def in_shar(line: bytes, _folder: str) -> Facts:
    """Check a cut whose recording lies in a tar under the cut's id."""
    return check(as_object(line))


def check(found: dict[str, Any]) -> Facts:
    kind = found.get("type", "MonoCut")
    if kind not in TYPES:
        raise ValueError(f"is a {kind}, not one of {', '.join(TYPES)}")
    if kind == "PaddingCut":
        return "PaddingCut"
    if not isinstance(found.get("id"), str):
        raise ValueError("is a cut without an id")  # noqa: TRY004  all that can be wrong with a line is one type
    duration = seconds(found)
    if duration <= 0:
        raise ValueError(f"duration is {duration:g} s, it must be above 0")
    return duration, digest(found["id"])


def seconds(cut: dict[str, Any]) -> float:
    """How long a cut lasts: a mixed one until its last track that can be heard ends."""
    if cut.get("type") != "MixedCut":
        return number(cut, "duration")
    heard = [track for track in tracks(cut) if not track.get("mute")] or tracks(cut)
    return max(number(track, "offset", 0.0) + seconds(track["cut"]) for track in heard)


def parts(cut: dict[str, Any]) -> list[dict[str, Any]]:
    """All cuts that a cut is made of."""
    if cut.get("type") != "MixedCut":
        return [cut]
    return [part for track in tracks(cut) for part in parts(track["cut"])]


def tracks(cut: dict[str, Any]) -> list[dict[str, Any]]:
    found = cut.get("tracks")
    if not found or not all(
        isinstance(track, dict) and isinstance(track.get("cut"), dict) for track in found
    ):
        raise ValueError("is a MixedCut without tracks")
    return found


CUTS = Kind("cuts", Format.cut, PLAIN, plain)
SHAR = Kind("shar", Format.cut, PLAIN, in_shar)
