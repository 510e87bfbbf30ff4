"""OLMo 2: Llama with norms after its blocks instead of before them, and of queries and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mlc_llm.model import op
from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.layers import AttentionCache, RMSNorm
from mlc_llm.model.llama import Llama, LlamaAttention, LlamaConfig, LlamaForCausalLM, LlamaMLP
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionSpec, Weight
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class Olmo2Config(LlamaConfig):
    """The hyper-parameters, with the defaults of transformers' ``Olmo2Config``."""

    rms_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        if "sliding_window" in data:  # GGUF files of both say olmo2
            raise ValueError("sliding_window must be left out: OLMo 3 is not supported")
        return super().fill(data)


class Olmo2Attention(LlamaAttention):
    """Queries and keys are normalised, all heads together, before they turn."""

    def __init__(self, config: Olmo2Config, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        queries, keys, _ = attention.qkv_parts
        self.q_norm = RMSNorm(queries, config.rms_norm_eps)
        self.k_norm = RMSNorm(keys, config.rms_norm_eps)
        self.ends = [queries, queries + keys]

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        query, key, value = op.split(self.qkv_proj(x), self.ends, axis=1)
        qkv = op.concat([self.q_norm(query), self.k_norm(key), value], dim=1)
        return self.o_proj(kv_cache.attend(layer, qkv), add=residual)


class Olmo2DecoderLayer(Module):
    """Attention and feed-forward, each with a norm behind it and beside a residual."""

    def __init__(self, config: Olmo2Config, attention: AttentionSpec) -> None:
        self.self_attn = Olmo2Attention(config, attention)
        self.mlp = LlamaMLP(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.post_attention_layernorm(self.self_attn(x, kv_cache, layer), add=x)
        return self.post_feedforward_layernorm(self.mlp(x), add=x)


class Olmo2ForCausalLM(LlamaForCausalLM):
    """Llama's language model with OLMo's layers."""

    layer_type: Callable[..., Module] = Olmo2DecoderLayer


class Olmo2(Llama):
    """OLMo 2 as Hugging Face's ``Olmo2ForCausalLM`` lays it out."""

    name = "olmo2"
    config_type = Olmo2Config
    module_type = Olmo2ForCausalLM
    layer_norms = ("post_attention_layernorm", "post_feedforward_layernorm")
    gguf = GGUFFamily(
        "olmo2",
        {
            **DECODER_TENSORS,
            "blk.*.attn_q_norm": "model.layers.*.self_attn.q_norm",
            "blk.*.attn_k_norm": "model.layers.*.self_attn.k_norm",
            "blk.*.post_attention_norm": "model.layers.*.post_attention_layernorm",
            "blk.*.post_ffw_norm": "model.layers.*.post_feedforward_layernorm",
        },
    )

    def attention_weights(self, config: Any, attention: str) -> list[Weight]:
        norms = [Weight(f"{attention}.{name}.weight") for name in ("q_norm", "k_norm")]
        return [*super().attention_weights(config, attention), *norms]


OLMO2 = Olmo2()
