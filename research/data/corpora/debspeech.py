"""Real speech out of Debian packages, 33 languages; festvox-ru among it has text and phones."""

from pathlib import Path

from research.data.corpora import debs, packages, splits
from research.data.corpora.corpus import Row, Splits, finish, is_whole, making
from research.data.corpora.speech import PACKAGES
from research.errors import HarkError, nearest

PRESETS = {"mini": PACKAGES[:6], "core": PACKAGES[:11], "full": PACKAGES}
LONGEST = 600.0  # seconds: nothing is cut
NOTES = (
    "sentences of phones_test are in neither train nor valid; those of phones_train are in train, without labels",
    "phone times are as published; against the audio they run about 10 ms early",
)


def prepare(out: Path, preset: str, deb_dir: Path | None = None) -> Path:
    """Make a debspeech corpus in `out` and give the folder. A finished one is left as it is.

    HarkError for an unknown preset, a package that cannot be had or differs from its pin, or a full disk.
    """
    if preset not in PRESETS:
        raise HarkError(
            f"--preset {preset}: unknown{nearest(preset, PRESETS)} (there are: {', '.join(PRESETS)})"
        )
    chosen = PRESETS[preset]
    inputs = packages.inputs(chosen)
    if not is_whole(out, inputs):
        with making(out):
            paths = debs.fetch(inputs, deb_dir)
            parts = packages.make_parts(out, chosen, paths, LONGEST)
            licences = packages.licences(chosen, parts)
            finish(
                out,
                inputs=inputs,
                parts=parts,
                licences=licences,
                split=split,
                notes=[*NOTES, *packages.credits_of(chosen)],
            )
    return out


def split(rows: list[Row]) -> Splits:
    """About 70 sentences test the phone probe and 150 train it."""
    return splits.speech(rows, [row for row in rows if "phones" in row], test=0.11, train=0.24)
