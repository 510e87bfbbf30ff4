"""InternLM 2 and 2.5: Llama under other names, with the heads of its projection in groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlc_llm.model.causal_lm import CausalLM, head_logits, through_layers, untied_head
from mlc_llm.model.layers import AttentionCache, Embedding, GatedActivation, Linear, RMSNorm
from mlc_llm.model.llama import Llama, LlamaConfig
from mlc_llm.model.module import Module
from mlc_llm.model.weights import grouped_qkv, linear_weights
from mlc_llm.plugin import AttentionSpec, Weight

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class InternLM2Config(LlamaConfig):
    """The hyper-parameters, with the defaults of the ``InternLM2Config`` beside the checkpoints.

    Args:
        bias: whether the projections around attention have biases.
    """

    bias: bool = True


class InternLM2Attention(Module):
    """The projections around a layer's attention."""

    def __init__(self, config: InternLM2Config, attention: AttentionSpec) -> None:
        hidden, bias = config.hidden_size, config.bias
        self.wqkv = Linear(hidden, attention.qkv_width, bias=bias)
        self.wo = Linear(attention.out_width, hidden, bias=bias)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        return self.wo(kv_cache.attend(layer, self.wqkv(x)), add=residual)


class InternLM2MLP(Module):
    """The feed-forward block: SwiGLU."""

    def __init__(self, config: InternLM2Config) -> None:
        hidden, ffn = config.hidden_size, config.intermediate_size
        self.gate_up_proj = Linear(hidden, (ffn, ffn))
        self.act = GatedActivation(config.hidden_act)
        self.w2 = Linear(ffn, hidden)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.w2(self.act(self.gate_up_proj(x)), add=residual)


class InternLM2DecoderLayer(Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, config: InternLM2Config, attention: AttentionSpec) -> None:
        self.attention = InternLM2Attention(config, attention)
        self.feed_forward = InternLM2MLP(config)
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.attention(self.attention_norm(x), kv_cache, layer, residual=x)
        return self.feed_forward(self.ffn_norm(x), residual=x)


class InternLM2Model(Module):
    """The table of tokens, the layers and the final norm."""

    def __init__(self, config: InternLM2Config, attention: Sequence[AttentionSpec]) -> None:
        self.tok_embeddings = Embedding("vocab_size", config.hidden_size)
        self.layers = [InternLM2DecoderLayer(config, one) for one in attention]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class InternLM2ForCausalLM(CausalLM):
    """InternLM 2's language model.

    Args:
        config: the hyper-parameters.
        attention: how each layer attends.
    """

    def __init__(self, config: InternLM2Config, attention: Sequence[AttentionSpec]) -> None:
        self.model = InternLM2Model(config, attention)
        self.output = untied_head(config.tie_word_embeddings, config.hidden_size)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.model.tok_embeddings(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return through_layers(self.model.layers, hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        hidden = self.model.norm(hidden)
        return head_logits(hidden, self.output, self.model.tok_embeddings)


class InternLM2(Llama):
    """InternLM 2 as its checkpoints' own ``InternLM2ForCausalLM`` lays it out."""

    name = "internlm2"
    config_type = InternLM2Config
    module_type = InternLM2ForCausalLM
    gguf = None  # such files have queries, keys and values apart

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("model.tok_embeddings.weight")]
        for index in range(config.num_hidden_layers):
            weights += self.layer_weights(config, f"model.layers.{index}")
        weights.append(Weight("model.norm.weight"))
        if not config.tie_word_embeddings:
            weights.append(Weight("output.weight"))
        return weights

    def layer_weights(self, config: Any, layer: str) -> list[Weight]:
        group = config.num_attention_heads // config.num_key_value_heads
        order = grouped_qkv(config.num_key_value_heads, group, config.head_dim)
        qkv = [
            Weight(one.name, make=order, orders_rows=True)
            for one in linear_weights(f"{layer}.attention", "wqkv", bias=config.bias)
        ]
        return [
            *qkv,
            *linear_weights(f"{layer}.attention", "wo", bias=config.bias),
            *linear_weights(f"{layer}.feed_forward", "gate_up_proj", ("w1", "w3")),
            *linear_weights(f"{layer}.feed_forward", "w2"),
            Weight(f"{layer}.attention_norm.weight"),
            Weight(f"{layer}.ffn_norm.weight"),
        ]

    def copies(self, config: Any) -> Mapping[str, str]:
        tied = {"output.weight": "model.tok_embeddings.weight"}
        return tied if config.tie_word_embeddings else {}


INTERNLM2 = InternLM2()
