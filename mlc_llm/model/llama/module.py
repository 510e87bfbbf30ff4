"""Llama as a Relax module.

Hidden states are (tokens, hidden): which tokens belong to which sequence is the KV cache's
business, so that prefill, decode and their batched twins are one computation.
"""

from __future__ import annotations

from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from mlc_llm.model.layers import Embedding, KVCache, SiluAndMul, last_token, rows_at
from mlc_llm.model.llama.architecture import LlamaConfig


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
    """Grouped-query attention over the paged KV cache."""

    def __init__(self, config: LlamaConfig, dtype: str) -> None:
        self.head_dim = config.head_dim
        self.query_heads = config.num_attention_heads
        self.heads = self.query_heads + 2 * config.num_key_value_heads
        self.scale = config.head_dim**-0.5
        # The cache holds the model's dtype, whatever the device's activations are in.
        self.qkv_proj = nn.Linear(
            config.hidden_size, self.heads * self.head_dim, bias=False, dtype=dtype, out_dtype=dtype
        )
        self.o_proj = nn.Linear(
            self.query_heads * self.head_dim, config.hidden_size, bias=False, dtype=dtype
        )

    def forward(self, x: nn.Tensor, kv_cache: KVCache, layer: int) -> nn.Tensor:
        tokens = x.shape[0]
        qkv = op.reshape(self.qkv_proj(x), (tokens, self.heads, self.head_dim))
        output = kv_cache.attention(layer, qkv, self.query_heads, self.scale)
        return self.o_proj(op.reshape(output, (tokens, self.query_heads * self.head_dim)))


class LlamaDecoderLayer(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, config: LlamaConfig, dtype: str) -> None:
        hidden, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = LlamaAttention(config, dtype)
        self.mlp = LlamaMLP(config, dtype)
        self.input_layernorm = nn.RMSNorm(hidden, -1, eps, bias=False, dtype=dtype)
        self.post_attention_layernorm = nn.RMSNorm(hidden, -1, eps, bias=False, dtype=dtype)

    def forward(self, x: nn.Tensor, kv_cache: KVCache, layer: int) -> nn.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), kv_cache, layer)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(nn.Module):
    """The decoder stack and the final norm, which is applied to the rows that need logits."""

    def __init__(self, config: LlamaConfig, dtype: str) -> None:
        self.embed_tokens = Embedding("vocab_size", config.hidden_size, dtype=dtype)
        self.layers = nn.ModuleList(
            [LlamaDecoderLayer(config, dtype) for _ in range(config.num_hidden_layers)]
        )
        self.norm = nn.RMSNorm(config.hidden_size, -1, config.rms_norm_eps, bias=False, dtype=dtype)

    def forward(self, x: nn.Tensor, kv_cache: KVCache) -> nn.Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x, kv_cache, index)
        return x


class LlamaForCausalLM(nn.Module):
    """The language model: what a compiled library's functions are."""

    def __init__(self, config: LlamaConfig, dtype: str) -> None:
        self.hidden_size = config.hidden_size
        self.model = LlamaModel(config, dtype)
        self.tied = config.tie_word_embeddings
        if not self.tied:
            self.lm_head = nn.Linear(
                config.hidden_size, "vocab_size", bias=False, dtype=dtype, out_dtype="float32"
            )

    def embed(self, token_ids: nn.Tensor) -> nn.Tensor:
        """Token ids (n,) int32 to embeddings (n, hidden)."""
        return self.model.embed_tokens(token_ids)

    def prefill(self, embeddings: nn.Tensor, kv_cache: KVCache) -> tuple[nn.Tensor, KVCache]:
        """Embeddings (1, n, hidden) of one sequence to the last token's logits (1, 1, vocab)."""
        hidden = self.model(self._rows(embeddings), kv_cache)
        logits = self.logits(last_token(hidden))
        return op.reshape(logits, (1, 1, logits.shape[1])), kv_cache

    def decode(self, embeddings: nn.Tensor, kv_cache: KVCache) -> tuple[nn.Tensor, KVCache]:
        """Embedding (1, 1, hidden) of one token to its logits (1, 1, vocab)."""
        logits = self.logits(self.model(self._rows(embeddings), kv_cache))
        return op.reshape(logits, (1, 1, logits.shape[1])), kv_cache

    def batch_prefill(
        self, embeddings: nn.Tensor, logit_positions: nn.Tensor, kv_cache: KVCache
    ) -> tuple[nn.Tensor, KVCache]:
        """Embeddings (1, n, hidden) of several sequences, one after the other, to logits.

        ``logit_positions`` (b,) int32 names the rows whose logits (1, b, vocab) are wanted.
        """
        hidden = self.model(self._rows(embeddings), kv_cache)
        logits = self.logits(rows_at(hidden, logit_positions))
        return op.reshape(logits, (1, *logits.shape)), kv_cache

    def batch_decode(self, embeddings: nn.Tensor, kv_cache: KVCache) -> tuple[nn.Tensor, KVCache]:
        """Embeddings (b, 1, hidden), a token of each sequence, to logits (b, 1, vocab)."""
        logits = self.logits(self.model(self._rows(embeddings), kv_cache))
        return op.reshape(logits, (logits.shape[0], 1, logits.shape[1])), kv_cache

    def _rows(self, embeddings: nn.Tensor) -> nn.Tensor:
        batch, tokens, hidden = embeddings.shape
        return op.reshape(embeddings, (batch * tokens, hidden))

    def logits(self, hidden: nn.Tensor) -> nn.Tensor:
        """Hidden states (tokens, hidden), not yet normalised, to logits (tokens, vocab)."""
        hidden = self.model.norm(hidden)
        return (
            self.model.embed_tokens.lm_head_forward(hidden) if self.tied else self.lm_head(hidden)
        )
