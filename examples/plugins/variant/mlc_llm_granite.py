"""IBM's Granite 3: Llama with four factors, as ``GraniteForCausalLM`` of transformers has them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import PositiveFloat

from mlc_llm.model.layers import AttentionCache
from mlc_llm.model.llama import Llama, LlamaConfig, LlamaDecoderLayer, LlamaForCausalLM
from mlc_llm.plugin import AttentionSpec

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class GraniteConfig(LlamaConfig):
    """Llama's hyper-parameters, and Granite's own under the names of its ``config.json``.

    Args:
        embedding_multiplier: factor of the token embeddings.
        attention_multiplier: factor of the attention scores, instead of ``head_dim ** -0.5``.
        residual_multiplier: factor of what a block adds to the residual.
        logits_scaling: divisor of the logits.
    """

    embedding_multiplier: PositiveFloat = 1.0
    attention_multiplier: PositiveFloat = 1.0
    residual_multiplier: PositiveFloat = 1.0
    logits_scaling: PositiveFloat = 1.0


class GraniteDecoderLayer(LlamaDecoderLayer):
    """Llama's layer, which adds less to the residual."""

    def __init__(self, config: GraniteConfig, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        self.factor = config.residual_multiplier

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), kv_cache, layer) * self.factor
        return x + self.mlp(self.post_attention_layernorm(x)) * self.factor


class GraniteForCausalLM(LlamaForCausalLM):
    """Llama's language model with scaled embeddings, layers of Granite's and scaled logits."""

    config: GraniteConfig
    layer_type = GraniteDecoderLayer

    def embed(self, token_ids: Tensor) -> Tensor:
        return super().embed(token_ids) * self.config.embedding_multiplier

    def logits(self, hidden: Tensor) -> Tensor:
        return super().logits(hidden) / self.config.logits_scaling


class Granite(Llama):
    """Granite 3; its weights have Llama's names and shapes."""

    name = "granite"
    config_type = GraniteConfig
    module_type = GraniteForCausalLM

    def attention(self, config: Any) -> list[AttentionSpec]:
        layers = super().attention(config)
        return [replace(layer, scale=config.attention_multiplier) for layer in layers]
