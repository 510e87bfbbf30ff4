"""Ministral 3: Mistral with YaRN, whose queries grow with their position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from mlc_llm.model import op
from mlc_llm.model.gguf import DECODER_TENSORS, LLAMA_FAMILY
from mlc_llm.model.layers import AttentionCache
from mlc_llm.model.llama import LlamaAttention, LlamaDecoderLayer, LlamaForCausalLM
from mlc_llm.model.mistral import Mistral, MistralConfig
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

_BETA = "llama_4_scaling_beta"
_LENGTH = "original_max_position_embeddings"
_ROPE = ("rope_scaling", "rope_parameters", "rope_theta", "position_embedding_base")
_DEFAULT_ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    _LENGTH: 16384,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    _BETA: 0.1,
}
"""RoPE where a file says nothing of it."""


class Ministral3Config(MistralConfig):
    """The hyper-parameters, with the defaults of transformers' ``Ministral3Config``.

    Args:
        llama_4_scaling_beta: how much queries grow, see :class:`Ministral3Attention`; files have it
            among RoPE's parameters. With 0 they do not.
    """

    rms_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)
    llama_4_scaling_beta: float = Field(0.0, ge=0, allow_inf_nan=False)

    default_positions: ClassVar[int] = 262144

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data.setdefault("head_dim", 128)
        if not any(name in data for name in _ROPE):
            data["rope_parameters"] = _DEFAULT_ROPE
        data = super().fill(data)
        scaling = data.get("rope_scaling", {})
        beta = scaling.pop(_BETA, None)
        return data if beta is None else {**data, _BETA: beta}

    @model_validator(mode="after")
    def _check_scaling(self) -> Ministral3Config:
        if self.llama_4_scaling_beta and not self.scaling_length:
            raise ValueError(f"{_LENGTH} must be given with {_BETA}, as a number of positions")
        return self

    @property
    def scaling_length(self) -> int:
        """Positions at which queries do not grow; 0 where no file says it."""
        length = (self.rope_scaling or {}).get(_LENGTH, 0)
        return length if isinstance(length, int) and 0 < length < 2**31 else 0


class Ministral3Attention(LlamaAttention):
    """A query at position p is multiplied by ``1 + beta * log(1 + floor(p / length))``."""

    def __init__(self, config: Ministral3Config, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        self.beta, self.length = config.llama_4_scaling_beta, config.scaling_length
        self.query_width = attention.qkv_parts[0]

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        qkv = self.qkv_proj(x)
        if self.beta:
            query, others = op.split(qkv, [self.query_width], axis=1)
            growth = op.astype(self._growth(kv_cache.positions), qkv.dtype)
            qkv = op.concat([query * growth, others], dim=1)
        return self.o_proj(kv_cache.attend(layer, qkv), add=residual)

    def _growth(self, positions: Tensor) -> Tensor:
        """Positions (tokens,) int32 to factors (tokens, 1) float32."""
        # The half changes no floor, and keeps a division that is rounded away from the next number.
        lengths = op.floor((op.astype(positions, "float32") + 0.5) / float(self.length))
        return op.reshape(op.log(lengths + 1.0) * self.beta + 1.0, (positions.shape[0], 1))


class Ministral3DecoderLayer(LlamaDecoderLayer):
    """Llama's layer with Ministral's attention."""

    attention_type: Callable[..., Module] = Ministral3Attention


class Ministral3ForCausalLM(LlamaForCausalLM):
    """Llama's language model with Ministral's layers."""

    layer_type = Ministral3DecoderLayer


class Ministral3(Mistral):
    """Ministral 3 as Hugging Face's ``Ministral3ForCausalLM`` lays it out."""

    name = "ministral3"
    config_type = Ministral3Config
    module_type = Ministral3ForCausalLM
    window = None
    gguf = GGUFFamily(
        "mistral3",
        DECODER_TENSORS,
        settings={_BETA: "attention.temperature_scale"},
        orders=LLAMA_FAMILY.orders,
    )


MINISTRAL3 = Ministral3()
