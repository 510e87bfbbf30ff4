"""Qwen 3: Qwen 2 without biases, with a norm of each head of queries and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.layers import AttentionCache, RMSNorm
from mlc_llm.model.qwen2 import (
    Qwen2,
    Qwen2Attention,
    Qwen2Config,
    Qwen2DecoderLayer,
    Qwen2ForCausalLM,
)
from mlc_llm.plugin import AttentionSpec, Weight
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class Qwen3Config(Qwen2Config):
    """The hyper-parameters, with the defaults of transformers' ``Qwen3Config``."""

    attention_bias: bool = False

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data.setdefault("head_dim", 128)
        return super().fill(data)


class Qwen3Attention(Qwen2Attention):
    """Queries and keys are normalised, head by head, before they turn."""

    output_bias = True

    def __init__(self, config: Qwen3Config, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        self.q_norm = RMSNorm(attention.key_size, config.rms_norm_eps)
        self.k_norm = RMSNorm(attention.key_size, config.rms_norm_eps)
        self.spec = attention

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        qkv = self.q_norm.of_heads(self.c_attn(x), self.spec, self.k_norm)
        return self.o_proj(kv_cache.attend(layer, qkv), add=residual)


class Qwen3DecoderLayer(Qwen2DecoderLayer):
    """Llama's layer with Qwen 3's attention."""

    attention_type = Qwen3Attention


class Qwen3ForCausalLM(Qwen2ForCausalLM):
    """Llama's language model with Qwen 3's layers."""

    layer_type = Qwen3DecoderLayer


class Qwen3(Qwen2):
    """Qwen 3 as Hugging Face's ``Qwen3ForCausalLM`` lays it out."""

    name = "qwen3"
    config_type = Qwen3Config
    module_type = Qwen3ForCausalLM
    output_bias = Qwen3Attention.output_bias
    gguf = GGUFFamily(
        "qwen3",
        {
            **DECODER_TENSORS,
            "blk.*.attn_q_norm": "model.layers.*.self_attn.q_norm",
            "blk.*.attn_k_norm": "model.layers.*.self_attn.k_norm",
        },
    )

    def attention_weights(self, config: Any, attention: str) -> list[Weight]:
        norms = [Weight(f"{attention}.{name}.weight") for name in ("q_norm", "k_norm")]
        return [*super().attention_weights(config, attention), *norms]


QWEN3 = Qwen3()
