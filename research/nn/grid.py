"""Labels on frames: one grid of cells for every representation, so that scores compare whatever the stride."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from research.downstream import Features
from research.errors import HarkError

MICRO = 1_000_000  # times are compared in whole microseconds: no boundary depends on rounding
SLACK = 0.1  # seconds by which labels may outlast the frames

Segments = Sequence[tuple[float, float, str]]


def vocabulary(*features: Features) -> dict[str, int]:
    """Number all labels that occur, in the order of the alphabet."""
    labels = {label for f in features for segments in f.segments for _, _, label in segments}
    return {label: i for i, label in enumerate(sorted(labels))}


@dataclass(kw_only=True)
class Grid:
    """Cell i is the time [i, i + 1) * `cell`; its label is that of the segment in which its centre lies.

    Frame k covers [k, k + 1) * period. A frame that covers several cells answers each of them, in its own position;
    frames shorter than a cell answer it together, concatenated.
    """

    cell: float = 0.02  # s
    shift: float = (
        0.01  # s by which labels are moved to later times: festvox-ru's run early by about that much
    )

    def labels(self, segments: Segments, known: dict[str, int]) -> Tensor:
        """The label of every cell (n,), as numbered in `known`; -1 where no segment is."""
        cell, shift = round(self.cell * MICRO), round(self.shift * MICRO)
        starts = torch.tensor([round(start * MICRO) + shift for start, _, _ in segments])
        ends = torch.tensor([round(end * MICRO) + shift for _, end, _ in segments])
        centres = torch.arange(int(ends.max()) // cell + 1) * cell + cell // 2  # (n,)
        at = torch.searchsorted(starts, centres, right=True) - 1
        inside = (at >= 0) & (centres < ends[at])
        return torch.tensor([known[label] for _, _, label in segments])[at].masked_fill(~inside, -1)

    def positions(self, period: float) -> int:
        """Count the cells in a frame; 1 when a frame is no longer than a cell."""
        many, parts = period / self.cell, self.cell / period
        if min(abs(many - round(many)), abs(parts - round(parts))) > 1e-6:
            raise HarkError(
                f"frames of {period * 1e3:g} ms do not fit a grid of {self.cell * 1e3:g} ms cells"
            )
        return max(1, round(many))

    def align(self, features: Features, known: dict[str, int]) -> list[tuple[Tensor, Tensor]]:
        """Per utterance, frames x (K, D'), or (K, L, D'), and the labels y (K, P) that each has to give; -1 asks nothing.

        Raises HarkError when an utterance's frames end well before its labels do.
        """
        positions, parts = self.positions(features.period), max(1, round(self.cell / features.period))
        aligned = []
        for x, segments in zip(features.frames, features.segments, strict=True):  # (T, D) or (T, L, D)
            if segments[-1][1] > len(x) * features.period + SLACK:
                ends = f"labels end at {segments[-1][1]:.2f} s, frames at {len(x) * features.period:.2f} s"
                raise HarkError(f"{ends}: they are not of the same recording")
            y = self.labels(segments, known)  # (n,)
            y = torch.nn.functional.pad(y, (0, -len(y) % positions), value=-1).view(-1, positions)  # (K, P)
            # the last frame stands in for one that is missing
            rows = torch.arange(len(y) * parts).clamp(max=len(x) - 1)
            runs = x[rows].unflatten(0, (len(y), parts))  # (K, parts, D) or (K, parts, L, D)
            aligned.append((runs.movedim(1, -2).flatten(-2), y))  # (K, parts * D) or (K, L, parts * D)
        return aligned
