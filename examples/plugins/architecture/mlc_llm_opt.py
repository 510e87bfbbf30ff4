"""Meta's OPT, as ``OPTForCausalLM`` of transformers has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveInt, model_validator

from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.layers import Activation, Embedding, LayerNorm, Linear, activation_name
from mlc_llm.model.module import Module, named_parameters
from mlc_llm.plugin import Architecture, AttentionSpec, ModelConfig, Weight

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

    from mlc_llm.model.layers import AttentionCache

FIRST_POSITION = 2
"""The row of the first position; the table has two more than there are positions."""
EPSILON = 1e-5


class OPTConfig(ModelConfig):
    """OPT's hyper-parameters, with the defaults of transformers' ``OPTConfig``."""

    num_attention_heads: PositiveInt
    n_positions: PositiveInt
    ffn_dim: PositiveInt
    word_embed_proj_dim: PositiveInt
    activation_function: str = "relu"
    # Each of these would change what is computed, so another value is refused.
    do_layer_norm_before: Literal[True] = True
    remove_final_layer_norm: Literal[False] = False
    enable_bias: Literal[True] = True
    layer_norm_elementwise_affine: Literal[True] = True
    tie_word_embeddings: Literal[True] = True
    sliding_window_size: Literal[-1] = -1

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give what compiled code depends on names of its own, and what is left out its default."""
        data.setdefault("n_positions", data.get("max_position_embeddings", 2048))
        data["max_position_embeddings"] = data["n_positions"]
        data.setdefault("word_embed_proj_dim", data.get("hidden_size"))
        data.setdefault("remove_final_layer_norm", data.get("_remove_final_layer_norm", False))
        return super().fill(data)

    @model_validator(mode="after")
    def _check(self) -> OPTConfig:
        """Refuse what would be computed wrongly."""
        activation_name(self.activation_function)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size must be a multiple of {self.num_attention_heads} heads")
        if self.word_embed_proj_dim != self.hidden_size:
            raise ValueError("word_embed_proj_dim must be hidden_size: there is no projection")
        if self.context_window_size > self.n_positions:
            raise ValueError(f"the context window must be at most n_positions ({self.n_positions})")
        return self


class OPTAttention(Module):
    def __init__(self, config: OPTConfig, attention: AttentionSpec) -> None:
        self.qkv_proj = Linear(config.hidden_size, attention.qkv_parts, bias=True)
        self.out_proj = Linear(attention.out_width, config.hidden_size, bias=True)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        return self.out_proj(kv_cache.attend(layer, self.qkv_proj(x)), add=residual)


class OPTLayer(Module):
    def __init__(self, config: OPTConfig, attention: AttentionSpec) -> None:
        self.self_attn = OPTAttention(config, attention)
        self.self_attn_layer_norm = LayerNorm(config.hidden_size, EPSILON)
        self.fc1 = Linear(config.hidden_size, config.ffn_dim, bias=True)
        self.act = Activation(activation_name(config.activation_function))
        self.fc2 = Linear(config.ffn_dim, config.hidden_size, bias=True)
        self.final_layer_norm = LayerNorm(config.hidden_size, EPSILON)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.self_attn(self.self_attn_layer_norm(x), kv_cache, layer, residual=x)
        return self.fc2(self.act(self.fc1(self.final_layer_norm(x))), add=x)


class OPTDecoder(Module):
    def __init__(self, config: OPTConfig, attention: Sequence[AttentionSpec]) -> None:
        rows = config.n_positions + FIRST_POSITION
        self.embed_tokens = Embedding("vocab_size", config.hidden_size)
        self.embed_positions = Embedding(rows, config.hidden_size)
        self.final_layer_norm = LayerNorm(config.hidden_size, EPSILON)
        self.layers = [OPTLayer(config, one) for one in attention]


class OPTModel(Module):
    def __init__(self, config: OPTConfig, attention: Sequence[AttentionSpec]) -> None:
        self.decoder = OPTDecoder(config, attention)


class OPTForCausalLM(CausalLM):
    def __init__(self, config: OPTConfig, attention: Sequence[AttentionSpec]) -> None:
        self.model = OPTModel(config, attention)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.model.decoder.embed_tokens(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        decoder = self.model.decoder
        hidden = hidden + decoder.embed_positions(kv_cache.positions + FIRST_POSITION)
        for index, layer in enumerate(decoder.layers):
            hidden = layer(hidden, kv_cache, index)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        decoder = self.model.decoder
        return decoder.embed_tokens.as_linear(decoder.final_layer_norm(hidden))


class OPT(Architecture):
    """OPT: LayerNorm, learned positions, ReLU, a head that shares the table of embeddings."""

    name = "opt"
    config_type = OPTConfig
    module_type = OPTForCausalLM

    def attention(self, config: Any) -> list[AttentionSpec]:
        heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        return [AttentionSpec(heads, heads, size, size, size**-0.5)] * config.num_hidden_layers

    def weights(self, config: Any) -> list[Weight]:
        """The checkpoint's own names, but that query, key and value are joined."""
        names = named_parameters(self.module(config))
        return [
            Weight(name, tuple(name.replace("qkv_proj", f"{part}_proj") for part in "qkv"))
            if "qkv_proj" in name
            else Weight(name)
            for name in names
        ]

    def rename(self, name: str) -> str:
        """Files of the model without a head have no prefix."""
        return f"model.{name}" if name.startswith("decoder.") else name

    def ignores(self, name: str) -> bool:
        """Old files hold a version."""
        return name == "model.decoder.version"

    def copies(self, config: Any) -> Mapping[str, str]:
        return {"lm_head.weight": "model.decoder.embed_tokens.weight"}
