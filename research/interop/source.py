"""A checkpoint of any origin, read and under hark's names. No model is built to read one."""

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from research.contracts import Encoder, Frontend
from research.interop.report import Entry


@dataclass
class Source:
    """What `init=` copies from and what an `Upstream` is made of. Every reader of a format gives one."""

    path: Path
    kind: str  # as a report names it: "hark run", "NeMo", "Hugging Face wav2vec2", ...
    frontend: Frontend.Config
    encoder: Encoder.Config
    state: dict[str, Tensor]  # frontend.*, encoder.*, and the other parts of an objective where there are any
    # every foreign option and key: used for what, or why not
    entries: list[Entry] = field(default_factory=list)
    step: int | None = None  # of a hark run
