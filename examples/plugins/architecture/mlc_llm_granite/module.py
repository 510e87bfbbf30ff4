"""Granite as a Relax module: Llama's, with a factor in three places."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.relax.frontend import nn

from mlc_llm.model.layers import KVCache
from mlc_llm.model.llama.module import LlamaDecoderLayer, LlamaForCausalLM
from mlc_llm.plugin import AttentionSpec
from mlc_llm_granite import GraniteConfig


class GraniteDecoderLayer(LlamaDecoderLayer):
    """Llama's layer, which adds less to the residual."""

    def __init__(self, config: GraniteConfig, attention: AttentionSpec, dtype: str) -> None:
        super().__init__(config, attention, dtype)
        self.factor = config.residual_multiplier

    def forward(self, x: nn.Tensor, kv_cache: KVCache, layer: int) -> nn.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), kv_cache, layer) * self.factor
        return x + self.mlp(self.post_attention_layernorm(x)) * self.factor


class GraniteForCausalLM(LlamaForCausalLM):
    """Llama's language model with scaled embeddings, layers of Granite's and scaled logits."""

    def __init__(
        self, config: GraniteConfig, attention: Sequence[AttentionSpec], dtype: str
    ) -> None:
        super().__init__(config, attention, dtype)
        self.config = config
        self.model.layers = nn.ModuleList(
            [GraniteDecoderLayer(config, one, dtype) for one in attention]
        )

    def embed(self, token_ids: nn.Tensor) -> nn.Tensor:
        return super().embed(token_ids) * self.config.embedding_multiplier

    def logits(self, hidden: nn.Tensor) -> nn.Tensor:
        return super().logits(hidden) / self.config.logits_scaling
