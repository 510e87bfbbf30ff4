"""Llama as a Relax module."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.relax.frontend import nn

from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.layers import Embedding, KVCache, SiluAndMul
from mlc_llm.model.llama.architecture import LlamaConfig
from mlc_llm.plugin import AttentionSpec


class LlamaMLP(nn.Module):
    """The SwiGLU feed-forward block."""

    def __init__(self, config: LlamaConfig, dtype: str) -> None:
        hidden, ffn = config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Linear(hidden, 2 * ffn, bias=False, dtype=dtype)
        self.act = SiluAndMul()
        self.down_proj = nn.Linear(ffn, hidden, bias=False, dtype=dtype)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return self.down_proj(self.act(self.gate_up_proj(x)))


class LlamaAttention(nn.Module):
    """The projections around a layer's attention."""

    def __init__(self, config: LlamaConfig, attention: AttentionSpec, dtype: str) -> None:
        hidden = config.hidden_size
        self.qkv_proj = nn.Linear(hidden, attention.qkv_width, bias=False, dtype=dtype)
        self.o_proj = nn.Linear(attention.out_width, hidden, bias=False, dtype=dtype)

    def forward(self, x: nn.Tensor, kv_cache: KVCache, layer: int) -> nn.Tensor:
        return self.o_proj(kv_cache.attend(layer, self.qkv_proj(x)))


class LlamaDecoderLayer(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, config: LlamaConfig, attention: AttentionSpec, dtype: str) -> None:
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = LlamaAttention(config, attention, dtype)
        self.mlp = LlamaMLP(config, dtype)
        self.input_layernorm = nn.RMSNorm(hidden, -1, eps, bias=False, dtype=dtype)
        self.post_attention_layernorm = nn.RMSNorm(hidden, -1, eps, bias=False, dtype=dtype)

    def forward(self, x: nn.Tensor, kv_cache: KVCache, layer: int) -> nn.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), kv_cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(nn.Module):
    """The decoder stack and the final norm, which is applied to the rows that need logits."""

    def __init__(self, config: LlamaConfig, attention: Sequence[AttentionSpec], dtype: str) -> None:
        self.embed_tokens = Embedding("vocab_size", config.hidden_size, dtype=dtype)
        self.layers = nn.ModuleList([LlamaDecoderLayer(config, one, dtype) for one in attention])
        self.norm = nn.RMSNorm(config.hidden_size, -1, config.rms_norm_eps, bias=False, dtype=dtype)

    def forward(self, x: nn.Tensor, kv_cache: KVCache) -> nn.Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, kv_cache, index)
        return x


class LlamaForCausalLM(CausalLM):
    """Llama's language model.

    Args:
        config: the hyper-parameters.
        attention: how each layer attends.
        dtype: of the parameters.
    """

    def __init__(self, config: LlamaConfig, attention: Sequence[AttentionSpec], dtype: str) -> None:
        self.model = LlamaModel(config, attention, dtype)
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.lm_head = nn.Linear(
                config.hidden_size, "vocab_size", bias=False, dtype=dtype, out_dtype="float32"
            )

    def embed(self, token_ids: nn.Tensor) -> nn.Tensor:
        return self.model.embed_tokens(token_ids)

    def layers(self, hidden: nn.Tensor, kv_cache: KVCache) -> nn.Tensor:
        return self.model(hidden, kv_cache)

    def logits(self, hidden: nn.Tensor) -> nn.Tensor:
        hidden = self.model.norm(hidden)
        return (
            self.model.embed_tokens.lm_head_forward(hidden) if self.tied else self.lm_head(hidden)
        )
