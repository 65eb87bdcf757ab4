"""Real noise out of Debian packages: places, things, music."""

import re
from collections.abc import Iterator
from pathlib import Path

from research.data.corpora import debs, packages
from research.data.corpora.clips import Clip
from research.data.corpora.corpus import finish, is_whole, making
from research.data.corpora.packages import Files, Package

LONGEST = 30.0  # seconds: longer recordings are cut into equal pieces
KINDS = {
    "lincity-ng-data": "ambience",
    "searchandrescue-data": "sfx",
    "scratch": "sfx",
    "asterisk-moh-opsound-g722": "music",
}


def recordings(package: str, files: Files) -> Iterator[Clip]:
    """Every file is a recording of the package's kind, but what lies in a folder `music`."""
    for name, data in files.items():
        word = re.split(r"/(?:sounds|Sounds|moh|music)/", name)[1].rsplit(".", 1)[0]
        kind = "music" if "/music/" in name else KINDS[package]
        yield Clip(key=word, file=name, data=data, kind=kind, word=word)


PACKAGES = [
    Package("lincity-ng-data", r"/lincity-ng/(sounds/(?!Click)[^/]+\.wav|music/.*\.ogg)$", recordings),
    Package("searchandrescue-data", r"/searchandrescue/sounds/.*\.wav$", recordings),
    Package("scratch", r"/Media/Sounds/(Animal|Effects|Human)/[^/]+\.(wav|mp3)$", recordings),
    Package("asterisk-moh-opsound-g722", r"/asterisk/moh/[^/]+\.g722$", recordings),
]


def prepare(out: Path, deb_dir: Path | None = None) -> Path:
    """Make the noise corpus in `out` and give the folder. A finished one is left as it is.

    HarkError for a package that cannot be had or differs from its pin, or a full disk.
    """
    inputs = packages.inputs(PACKAGES)
    if not is_whole(out, inputs):
        with making(out):
            paths = debs.fetch(inputs, deb_dir)
            parts = packages.make_parts(out, PACKAGES, paths, LONGEST)
            finish(out, inputs=inputs, parts=parts, licences=packages.licences(PACKAGES, parts))
    return out
