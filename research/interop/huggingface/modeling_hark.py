"""A hark upstream as a transformers model, for encoders that transformers has none of its own for.

`hark export --to hf` puts this file beside the weights. `AutoModel.from_pretrained(FOLDER, trust_remote_code=True)`
runs it; it needs hark installed (`research` and `plugins` importable), the weights alone need safetensors only.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from research.contracts import Seq
from research.interop.described import configs
from research.model import build_upstream


class HarkConfig(PretrainedConfig):
    """`upstream` says what frontend and encoder are, as config.yaml of a run does."""

    model_type = "hark"

    def __init__(self, upstream: dict[str, Any] | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.upstream = upstream or {}


@dataclass
class HarkOutput(ModelOutput):
    last_hidden_state: Tensor | None = None  # (B, T, D)
    hidden_states: tuple[Tensor, ...] | None = None  # layers 0 to depth, each (B, T, D)
    lengths: Tensor | None = None  # (B,) frames of each row


class HarkModel(PreTrainedModel):
    """Audio -> hidden states. `input_values` (B, N) as it is, not normalised; padding is what the mask has 0 for."""

    config_class = HarkConfig
    main_input_name = "input_values"

    def __init__(self, config: HarkConfig) -> None:
        super().__init__(config)
        upstream = build_upstream(*configs(config.upstream))
        self.frontend, self.encoder = upstream.frontend, upstream.encoder
        self.post_init()

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Leave modules as their constructors made them."""

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        output_hidden_states: bool | None = None,
        **_: Any,
    ) -> HarkOutput:
        rows, size = input_values.shape
        lengths = torch.full((rows,), size) if attention_mask is None else attention_mask.sum(1).cpu()
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        layers = range(self.encoder.depth + 1) if wanted else ()
        encoded = self.encoder(self.frontend(Seq(input_values, lengths.long())), layers)
        states = tuple(encoded.layers) if wanted else None
        return HarkOutput(encoded.last.x, states, encoded.last.lengths)
