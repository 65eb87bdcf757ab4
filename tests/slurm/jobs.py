"""Jobs for the tests of a scheduler: what each does is in its order. Light: nothing of hark is imported."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Task:
    """An order as submitit calls it: runs the Python lines under `do` of its values."""

    path: str

    def __call__(self) -> None:
        order = json.loads(Path(self.path).read_text())
        exec(order["values"]["do"], {"order": order})

    def checkpoint(self):
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
