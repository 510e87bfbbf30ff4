"""IBM's Granite 3: Llama with four factors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mlc_llm.model.gguf import DECODER_TENSORS, LLAMA_FAMILY
from mlc_llm.model.layers import AttentionCache
from mlc_llm.model.llama import Llama, LlamaConfig, LlamaDecoderLayer, LlamaForCausalLM
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GraniteConfig(LlamaConfig):
    """Llama's hyper-parameters and Granite's own, with the defaults of ``GraniteConfig``.

    Args:
        embedding_multiplier: factor of the token embeddings.
        attention_multiplier: factor of the attention scores, instead of ``head_dim ** -0.5``.
        residual_multiplier: factor of what a block adds to the residual.
        logits_scaling: divisor of the logits.
    """

    embedding_multiplier: Factor = 1.0
    attention_multiplier: Factor = 1.0
    residual_multiplier: Factor = 1.0
    logits_scaling: Factor = 1.0


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
    """Granite as Hugging Face's ``GraniteForCausalLM`` lays it out: Llama's names and shapes."""

    name = "granite"
    config_type = GraniteConfig
    module_type = GraniteForCausalLM
    gguf = GGUFFamily(
        "granite",
        DECODER_TENSORS,
        settings={
            "embedding_multiplier": "embedding_scale",
            "attention_multiplier": "attention.scale",
            "residual_multiplier": "residual_scale",
            "logits_scaling": "logit_scale",
        },
        orders=LLAMA_FAMILY.orders,
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        layers = super().attention(config)
        return [replace(layer, scale=config.attention_multiplier) for layer in layers]


GRANITE = Granite()
