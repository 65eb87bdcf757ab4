"""torch.compile on what encoders repeat."""

from torch.nn import Module

from research.engine.sharding import blocks


def compile_blocks(model: Module, backend: str = "inductor") -> None:
    """Compile the blocks of every encoder, in place: names of weights stay, and whoever calls a block gets the fast one.

    All blocks of a kind share their graphs. A graph serves any length and, but for one row and for 16 rows and more,
    any number of rows; so few are made, each before the first step that needs it.
    """
    for block in blocks(model):
        block.compile(dynamic=True, backend=backend)
