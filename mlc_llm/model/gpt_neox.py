"""GPT-NeoX: Pythia, RedPajama-INCITE and Dolly 2, with LayerNorm and partly turned heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mlc_llm.model.causal_lm import CausalLM, head_logits, through_layers, untied_head
from mlc_llm.model.layers import (
    Activation,
    ActivationName,
    AttentionCache,
    Embedding,
    LayerNorm,
    Linear,
    activation_name,
)
from mlc_llm.model.module import Module, Parameter
from mlc_llm.model.rotary import PartRotaryConfig
from mlc_llm.model.weights import OrderRows, interleaved_qkv, inverse, linear_weights
from mlc_llm.plugin import Architecture, AttentionSpec, Weight
from mlc_llm.plugin.architecture import Size
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class GPTNeoXConfig(PartRotaryConfig):
    """The hyper-parameters, with the defaults of transformers' ``GPTNeoXConfig``."""

    intermediate_size: Size
    hidden_act: ActivationName
    layer_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)
    use_parallel_residual: bool = True
    attention_bias: bool = True
    tie_word_embeddings: bool = False

    default_part: ClassVar[float] = 0.25

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        older = {"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}
        data = {**{name: data[old] for old, name in older.items() if old in data}, **data}
        for follows in ("num_key_value_heads", "head_dim"):
            data.pop(follows, None)
        if "context_window_size" not in data:
            data.setdefault("max_position_embeddings", 2048)
        data["hidden_act"] = activation_name(data.get("hidden_act", "gelu"))
        return super().fill(data)


class GPTNeoXAttention(Module):
    """The projections around a layer's attention."""

    def __init__(self, config: GPTNeoXConfig, attention: AttentionSpec) -> None:
        hidden, bias = config.hidden_size, config.attention_bias
        self.query_key_value = Linear(hidden, attention.qkv_width, bias=bias)
        self.dense = Linear(attention.out_width, hidden, bias=bias)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        return self.dense(kv_cache.attend(layer, self.query_key_value(x)), add=residual)


class GPTNeoXMLP(Module):
    """The feed-forward block. Its biases are float32, as MLC's folders have them."""

    def __init__(self, config: GPTNeoXConfig) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self.dense_h_to_4h = Linear(hidden, inner, bias=True)
        self.act = Activation(config.hidden_act)
        self.dense_4h_to_h = Linear(inner, hidden, bias=True)
        self.dense_h_to_4h.bias = Parameter((inner,), "float32")
        self.dense_4h_to_h.bias = Parameter((hidden,), "float32")

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.dense_4h_to_h(self.act(self.dense_h_to_4h(x)), add=residual)


class GPTNeoXLayer(Module):
    """Attention and feed-forward, each behind a norm: beside each other, or one after the other."""

    def __init__(self, config: GPTNeoXConfig, attention: AttentionSpec) -> None:
        self.parallel = config.use_parallel_residual
        self.input_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.post_attention_layernorm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.attention = GPTNeoXAttention(config, attention)
        self.mlp = GPTNeoXMLP(config)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        attended = self.attention(self.input_layernorm(x), kv_cache, layer, residual=x)
        read = x if self.parallel else attended
        return self.mlp(self.post_attention_layernorm(read), residual=attended)


class GPTNeoXModel(Module):
    """The embeddings, the layers and the last norm."""

    def __init__(self, config: GPTNeoXConfig, attention: Sequence[AttentionSpec]) -> None:
        self.embed_in = Embedding("vocab_size", config.hidden_size)
        self.layers = [GPTNeoXLayer(config, one) for one in attention]
        self.final_layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)


class GPTNeoXForCausalLM(CausalLM):
    """GPT-NeoX's language model."""

    def __init__(self, config: GPTNeoXConfig, attention: Sequence[AttentionSpec]) -> None:
        self.gpt_neox = GPTNeoXModel(config, attention)
        self.embed_out = untied_head(config.tie_word_embeddings, config.hidden_size)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.gpt_neox.embed_in(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return through_layers(self.gpt_neox.layers, hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        hidden = self.gpt_neox.final_layer_norm(hidden)
        return head_logits(hidden, self.embed_out, self.gpt_neox.embed_in)


def _each_head(config: Any) -> OrderRows:
    """Queries, keys and values in the order of the checkpoint: those of each head together."""
    apart = interleaved_qkv(config.num_attention_heads, config.head_dim)
    return inverse(apart, 3 * config.num_attention_heads * config.head_dim)


class GPTNeoX(Architecture):
    """GPT-NeoX as Hugging Face's ``GPTNeoXForCausalLM`` lays it out."""

    name = "gpt_neox"
    config_type = GPTNeoXConfig
    module_type: Callable[..., Any] = GPTNeoXForCausalLM
    gguf = GGUFFamily(
        "gptneox",
        {
            "token_embd": "gpt_neox.embed_in",
            "output_norm": "gpt_neox.final_layer_norm",
            "output": "embed_out",
            "blk.*.attn_norm": "gpt_neox.layers.*.input_layernorm",
            "blk.*.attn_qkv": "gpt_neox.layers.*.attention.query_key_value",
            "blk.*.attn_output": "gpt_neox.layers.*.attention.dense",
            "blk.*.ffn_norm": "gpt_neox.layers.*.post_attention_layernorm",
            "blk.*.ffn_up": "gpt_neox.layers.*.mlp.dense_h_to_4h",
            "blk.*.ffn_down": "gpt_neox.layers.*.mlp.dense_4h_to_h",
        },
        settings={"use_parallel_residual": "use_parallel_residual"},
        implied={
            "partial_rotary_factor": lambda data, tensors: 1.0,
            "attention_bias": lambda data, tensors: "blk.0.attn_qkv.bias" in tensors,
        },
        # llama.cpp's files have the queries of all heads, then the keys, then the values.
        orders={"blk.*.attn_qkv": _each_head},
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        return [config.attention()] * config.num_hidden_layers

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("gpt_neox.embed_in.weight")]
        for index in range(config.num_hidden_layers):
            weights += _layer(config, f"gpt_neox.layers.{index}")
        weights += linear_weights("gpt_neox", "final_layer_norm", bias=True)
        return weights if config.tie_word_embeddings else [*weights, Weight("embed_out.weight")]

    def rename(self, name: str) -> str:
        # transformers 5 calls the head what all families call it.
        return "embed_out.weight" if name == "lm_head.weight" else name

    def ignores(self, name: str) -> bool:
        masks = (".attention.bias", ".attention.masked_bias")
        return name.endswith((*masks, "rotary_emb.inv_freq"))

    def copies(self, config: Any) -> Mapping[str, str]:
        tied = {"embed_out.weight": "gpt_neox.embed_in.weight"}
        return tied if config.tie_word_embeddings else {}


def _layer(config: GPTNeoXConfig, layer: str) -> list[Weight]:
    bias, qkv = config.attention_bias, f"{layer}.attention.query_key_value"
    order = interleaved_qkv(config.num_attention_heads, config.head_dim)
    parts = ("weight", "bias") if bias else ("weight",)
    return [
        *linear_weights(layer, "input_layernorm", bias=True),
        *linear_weights(layer, "post_attention_layernorm", bias=True),
        *(Weight(f"{qkv}.{part}", make=order, orders_rows=True) for part in parts),
        *linear_weights(f"{layer}.attention", "dense", bias=bias),
        *linear_weights(f"{layer}.mlp", "dense_h_to_4h", bias=True),
        *linear_weights(f"{layer}.mlp", "dense_4h_to_h", bias=True),
    ]


GPT_NEOX = GPTNeoX()
