from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from research.contracts import Encoded, Encoder, Seq
from research.errors import HarkError
from research.nn.norm import BatchNorm, update_running
from research.nn.separable import Activation, Block, ResidualBlock
from research.registry import preset, register

STAGES = ([5], [11, 13, 15, 17, 19, 21], [13, 15, 17, 19, 21, 23, 25], [25, 27, 29, 31, 33, 35, 37, 39])


def odd(kernel: float) -> int:
    """The odd number of frames at or just above a scaled kernel."""
    return max(1, int(kernel)) // 2 * 2 + 1


@register("citrinet")
class Citrinet(Encoder):
    """Time-channel separable convolutions with squeeze-and-excitation (arXiv 2104.01721).

    Every stage but the first begins with a block that halves the frame rate. `embed` ends with the last of these; each
    block after it is a layer. All are `dim` wide: the block of another width with which NeMo closes the stack belongs to
    the heads of the objective (`objective.closing` of `mel_contrast`). Squeeze-and-excitation hears whole utterances, so
    there is no causal form.
    """

    example = ("encoder.dim=64", "encoder.stages=[[5],[11,13],[13],[25,27,29]]", "encoder.repeat=2")

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 1024  # D
        stages: list[list[int]] = field(default_factory=lambda: [*STAGES])  # kernels of the blocks
        kernel_factor: float = 0.25  # on all kernels but the very first
        repeat: int = 5  # convolutions in a block; the very first block has one, and no residual
        activation: Activation = Activation.relu
        dropout: float = 0.1  # in every block

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        refuse(cfg)
        self.dim, self.depth, self.stride = cfg.dim, len(cfg.stages[-1]) - 1, 2 ** (len(cfg.stages) - 1)
        first, *others = cfg.stages[0]
        blocks: list[nn.Module] = [Block(dim_in, cfg.dim, first, cfg.activation)]
        blocks += [residual(cfg, kernel) for kernel in others]
        for halving, *level in cfg.stages[1:]:
            blocks += [residual(cfg, halving, stride=2), *(residual(cfg, kernel) for kernel in level)]
        self.front, self.layers = nn.ModuleList(blocks[: -self.depth]), nn.ModuleList(blocks[-self.depth :])

    def embed(self, feats: Seq) -> Seq:  # (B, S, F) -> (B, T, D)
        x, valid = feats.x, feats.valid
        for block in self.front:
            x = block(x, valid)
            valid = valid[:, :: block.stride]
        return Seq(x, -(-feats.lengths // self.stride))

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        valid, states = x.valid, [x.x]
        for block in self.layers:
            states.append(block(states[-1], valid))
        return Encoded(x.replace(states[-1]), [states[depth] for depth in layers])

    def on_step_end(self, step: int) -> None:
        update_running([module for module in self.modules() if isinstance(module, BatchNorm)])


def residual(cfg: Citrinet.Config, kernel: int, stride: int = 1) -> ResidualBlock:
    return ResidualBlock(
        cfg.dim,
        odd(kernel * cfg.kernel_factor),
        cfg.activation,
        repeat=cfg.repeat,
        stride=stride,
        dropout=cfg.dropout,
    )


def refuse(cfg: Citrinet.Config) -> None:
    """Raise HarkError for settings that no encoder can have."""
    if len(cfg.stages) < 2 or not all(cfg.stages) or len(cfg.stages[-1]) < 2:
        raise HarkError(
            f"encoder.stages={cfg.stages}: give the kernels of two stages or more, such as [[5],[11,13]]; "
            "what follows the first block of the last stage are the layers"
        )
    if min(kernel for stage in cfg.stages for kernel in stage) < 1 or cfg.stages[0][0] % 2 == 0:
        raise HarkError(
            f"encoder.stages={cfg.stages}: kernels are 1 or more frames, the first one an odd number"
        )
    if cfg.dim < 1 or cfg.repeat < 1:
        raise HarkError(f"encoder.dim={cfg.dim}, encoder.repeat={cfg.repeat}: choose 1 or more of each")
    if not 0 <= cfg.dropout < 1:
        raise HarkError(f"encoder.dropout={cfg.dropout}: choose a share from 0 to below 1")


preset("citrinet_1024", Citrinet.Config())
preset("citrinet_tiny", Citrinet.Config(dim=128, repeat=1))
preset(
    "contextnet",
    Citrinet.Config(
        stages=[[5] * 3, [5] * 4, [5] * 7, [5] * 8], kernel_factor=1.0, activation=Activation.swish
    ),
)
