"""A page as plain parts, and the two forms that it takes: one HTML file, and Markdown with its pictures beside it."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from research.files import write

TEMPLATES = Path(__file__).parent / "templates"
TONES = {  # how a word of a table begins -> how the page colours it
    "better": "good",
    "done": "good",
    "worse": "bad",
    "failed": "bad",
    "missing": "bad",
    "not averaged": "bad",
    "mixed": "open",
    "problem": "open",
    "stopped": "open",
    "NaN": "bad",
    "inf": "bad",
    "-inf": "bad",
    "unfinished": "open",
    "not enough seeds": "open",
    "no difference shown": "even",
}
LONG = 45  # letters, of which a cell has more when it is a sentence
NUMBER = re.compile(r"[<+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?( \[.*\]|/\d+| of \d+| \+ unknown.*)?")


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    words: str
    tone: str = ""  # good, bad, open or alert: how the page colours it


@dataclass(frozen=True)
class Table:
    kind: ClassVar[str] = "table"
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    total: bool = False  # whether the last row sums up the others
    folded: bool = False  # whether only the caption is seen at first

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Headings, and whether numbers stand below them."""
        found = zip(self.headings, zip(*self.rows, strict=True), strict=True) if self.rows else ()
        return [(heading, any(tone(cell) == "number" for cell in cells)) for heading, cells in found]


@dataclass(frozen=True)
class Picture:
    kind: ClassVar[str] = "picture"
    name: str  # of its file
    caption: str
    svg: bytes
    width: float  # inches

    @property
    def uri(self) -> str:
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg).decode()}"


@dataclass(frozen=True)
class Code:
    """Lines to be typed."""

    kind: ClassVar[str] = "code"
    words: str


Block = Text | Table | Picture | Code


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    title: str
    about: str  # one line: what it is of
    sections: Sequence[Section] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]


def tone(cell: str) -> str:
    """The class of a table's cell."""
    if NUMBER.fullmatch(cell):
        return "number"
    found = next((tone for word, tone in TONES.items() if cell.startswith(word)), "")
    return found or ("long" if len(cell) > LONG else "")


def piped(cell: str) -> str:
    """A cell of a Markdown table."""
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def save(page: Page, folder: Path) -> Path:
    """Write report.html, which needs nothing else, and report.md with pictures/*.svg; give the first."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape  # noqa: PLC0415  slow to import

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"tone": tone, "piped": piped}
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for picture in page.pictures:
        write(folder / "pictures" / f"{picture.name}.svg", picture.svg)
    for name in ("report.md", "report.html"):
        write(folder / name, templates.get_template(name).render(page=page))
    return folder / "report.html"
