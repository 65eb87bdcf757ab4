from dataclasses import dataclass

from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from research.contracts import Seq
from research.downstream import Head
from research.registry import register


@register("bilstm_ctc")
class BiLSTM(Head):
    """Projection and bidirectional LSTMs, a vector per frame: SUPERB's head for speech recognition (arXiv 2105.01051)."""

    example = ("head.proj=16", "head.units=12")

    @dataclass(kw_only=True)
    class Config(Head.Config):
        proj: int = 1024  # width of the projection before the LSTMs
        units: int = 1024  # of each direction
        depth: int = 2  # LSTMs
        dropout: float = 0.2  # between the LSTMs

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        self.dim = 2 * cfg.units
        self.proj = nn.Linear(dim_in, cfg.proj)
        self.lstm = nn.LSTM(
            cfg.proj, cfg.units, cfg.depth, batch_first=True, bidirectional=True, dropout=cfg.dropout
        )

    def forward(self, x: Seq) -> Seq:
        order = x.lengths.argsort(descending=True)  # sorted here, on the host: torch would ask the device
        back, order_there = [o.to(x.x.device, non_blocking=True) for o in (order.argsort(), order)]
        rows = self.proj(x.x).index_select(0, order_there)  # (B, T, proj)
        packed = pack_padded_sequence(rows, x.lengths[order].clamp(min=1), batch_first=True)
        y, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.x.size(1))
        return x.replace(y.index_select(0, back))  # (B, T, 2 units)
