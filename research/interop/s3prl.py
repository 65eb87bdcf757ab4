"""hark's checkpoints as upstreams of s3prl (SUPERB): its downstream tasks take them as they are.

From Python, `register()` adds `hark_local` to s3prl's hub:

    from research.interop.s3prl import register
    register()
    upstream = s3prl.nn.S3PRLUpstream("hark_local", "runs/nest_demo-0123456789")

On the command line, s3prl's own `run_downstream` with that name among its upstreams:

    python -m research.interop.s3prl -m train -n trial -u hark_local -k runs/nest_demo-0123456789 -d phone_linear
"""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torchaudio
from torch import Tensor, nn

from research.contracts import Encoded, Seq
from research.errors import HarkError
from research.interop.load import load

SAMPLE_RATE = 16_000  # Hz, of all that s3prl hands over


class UpstreamExpert(nn.Module):
    """Any checkpoint that hark opens. s3prl decides about eval mode, gradients and device."""

    def __init__(self, ckpt: str, *, step: int | None = None) -> None:
        super().__init__()
        self.upstream, self.report = load(ckpt, step)
        rate = self.upstream.sample_rate
        if rate != SAMPLE_RATE:
            raise HarkError(f"{ckpt}: hears {rate} Hz; s3prl gives {SAMPLE_RATE} Hz only")

    def get_downsample_rates(self, key: str) -> int:
        """Samples from one frame to the next, the same for every key."""
        return round(self.upstream.period * SAMPLE_RATE)

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Tensor | list[Tensor]]:
        """B signals (N,) -> `hidden_states`, of the layers 0 to `depth` each (B, T, D), and `last_hidden_state`."""
        padded = nn.utils.rnn.pad_sequence(list(wavs), batch_first=True)  # (B, N)
        encoded: Encoded = self.upstream(Seq(padded, torch.tensor([len(wav) for wav in wavs])))
        return {"hidden_states": encoded.layers, "last_hidden_state": encoded.last.x}


def hark_local(ckpt: str, *_args: Any, step: int | None = None, **_kwargs: Any) -> UpstreamExpert:
    """Give the upstream of a checkpoint; what s3prl passes to every upstream besides is not needed."""
    return UpstreamExpert(ckpt, step=step)


def register() -> None:
    """Add `hark_local` to the names that s3prl knows."""
    stand_in()
    importlib.import_module("s3prl.hub").hark_local = hark_local  # type: ignore[attr-defined]


def stand_in() -> None:
    """Put something where s3prl 0.4.18 imports what torchaudio has no longer: two of its upstreams would use it."""
    name = "torchaudio.sox_effects"
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda _: None
        effects = ModuleType(name)
        effects.apply_effects_tensor = effects.apply_effects_file = None  # type: ignore[attr-defined]
        sys.modules[name] = effects


if __name__ == "__main__":
    register()
    try:
        importlib.import_module("s3prl.run_downstream").main()
    except HarkError as error:
        sys.exit(f"hark: {error}")
