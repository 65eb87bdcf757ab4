"""What lies ahead of a frame: which frames convolutions read, and how far layers upon layers hear."""

from collections.abc import Callable
from enum import Enum

from torch import Tensor, nn


class Convolutions(Enum):
    """Which frames a convolution over time reads."""

    centred = "centred"  # as many after a frame as before it
    causal = "causal"  # none after it

    def padding(self, kernel: int) -> int:
        """Zeros to put on both ends; the first T frames that come out are those of the T that went in."""
        return kernel // 2 if self is Convolutions.centred else kernel - 1

    def ahead(self, kernel: int) -> int:
        """Frames that are read after a frame."""
        return (kernel - 1) // 2 if self is Convolutions.centred else 0


class Depthwise(nn.Conv2d):
    """One kernel for each channel, over time: (B, T, C) -> (B, T, C)."""

    def __init__(self, channels: int, kernel: int, reads: Convolutions) -> None:
        super().__init__(channels, channels, (1, kernel), padding=(0, reads.padding(kernel)), groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x.transpose(1, 2)[:, :, None])  # (B, C, 1, T or more)
        return y[:, :, 0, : x.size(1)].transpose(1, 2)


def furthest(layer: Callable[[int], int], depth: int, period: int) -> int:
    """Give how many frames a frame hears ahead through `depth` layers, at most.

    `layer` gives the last frame that a layer reads for frame t, and reads as far for t + period.
    """

    def last(frame: int) -> int:
        for _ in range(depth):
            frame = layer(frame)
        return frame

    return max(last(frame) - frame for frame in range(period))
