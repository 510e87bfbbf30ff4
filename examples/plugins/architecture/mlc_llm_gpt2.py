"""OpenAI's GPT-2, as ``GPT2LMHeadModel`` of transformers has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveInt, model_validator

from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.layers import Activation, Embedding, LayerNorm, Linear, activation_name
from mlc_llm.model.module import Module, named_parameters
from mlc_llm.model.weights import transposed
from mlc_llm.plugin import Architecture, AttentionSpec, ModelConfig, Weight

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

    from mlc_llm.model.layers import AttentionCache

CONV1D = ("c_attn.weight", "c_fc.weight", "c_proj.weight")


class GPT2Config(ModelConfig):
    """GPT-2's hyper-parameters, with the defaults of transformers' ``GPT2Config``."""

    n_head: PositiveInt
    n_positions: PositiveInt
    n_inner: PositiveInt | None = None
    activation_function: str = "gelu_new"
    layer_norm_epsilon: float = 1e-5
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    # Each of these would change what is computed, so another value is refused.
    tie_word_embeddings: Literal[True] = True
    add_cross_attention: Literal[False] = False
    sliding_window_size: Literal[-1] = -1

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give what every config has its common name."""
        own = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer"}
        named = {common: data[name] for common, name in own.items() if name in data}
        positions = data.get("n_positions", data.get("max_position_embeddings", 1024))
        named |= dict.fromkeys(("n_positions", "max_position_embeddings"), positions)
        return super().fill({**named, **data})

    @model_validator(mode="after")
    def _check(self) -> GPT2Config:
        """Refuse what would be computed wrongly."""
        activation_name(self.activation_function)
        if self.hidden_size % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head ({self.n_head})")
        if self.context_window_size > self.n_positions:
            raise ValueError(f"the context window must be at most n_positions ({self.n_positions})")
        return self


class GPT2Attention(Module):
    def __init__(self, config: GPT2Config, attention: AttentionSpec) -> None:
        self.c_attn = Linear(config.hidden_size, attention.qkv_width, bias=True)
        self.c_proj = Linear(attention.out_width, config.hidden_size, bias=True)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        return self.c_proj(kv_cache.attend(layer, self.c_attn(x)), add=residual)


class GPT2MLP(Module):
    def __init__(self, config: GPT2Config) -> None:
        inner = config.n_inner or 4 * config.hidden_size
        self.c_fc = Linear(config.hidden_size, inner, bias=True)
        self.act = Activation(activation_name(config.activation_function))
        self.c_proj = Linear(inner, config.hidden_size, bias=True)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(x)), add=residual)


class GPT2Block(Module):
    def __init__(self, config: GPT2Config, attention: AttentionSpec) -> None:
        self.ln_1 = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, attention)
        self.ln_2 = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.attn(self.ln_1(x), kv_cache, layer, residual=x)
        return self.mlp(self.ln_2(x), residual=x)


class GPT2Model(Module):
    def __init__(self, config: GPT2Config, attention: Sequence[AttentionSpec]) -> None:
        self.wte = Embedding("vocab_size", config.hidden_size)
        self.wpe = Embedding(config.n_positions, config.hidden_size)
        self.h = [GPT2Block(config, one) for one in attention]
        self.ln_f = LayerNorm(config.hidden_size, config.layer_norm_epsilon)


class GPT2LMHeadModel(CausalLM):
    def __init__(self, config: GPT2Config, attention: Sequence[AttentionSpec]) -> None:
        self.transformer = GPT2Model(config, attention)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.transformer.wte(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        hidden = hidden + self.transformer.wpe(kv_cache.positions)
        for index, block in enumerate(self.transformer.h):
            hidden = block(hidden, kv_cache, index)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        return self.transformer.wte.as_linear(self.transformer.ln_f(hidden))


class GPT2(Architecture):
    """GPT-2: LayerNorm, learned positions, GeLU, a head that shares the table of embeddings."""

    name = "gpt2"
    config_type = GPT2Config
    module_type = GPT2LMHeadModel

    def attention(self, config: Any) -> list[AttentionSpec]:
        heads, size = config.n_head, config.hidden_size // config.n_head
        scale = size**-0.5 if config.scale_attn_weights else 1.0
        inverse = config.scale_attn_by_inverse_layer_idx
        return [
            AttentionSpec(heads, heads, size, size, scale / (index + 1) if inverse else scale)
            for index in range(config.num_hidden_layers)
        ]

    def weights(self, config: Any) -> list[Weight]:
        """The checkpoint's own names; a Conv1D holds its weight as (in, out)."""
        names = named_parameters(self.module(config))
        return [Weight(n, make=transposed if n.endswith(CONV1D) else None) for n in names]

    def rename(self, name: str) -> str:
        """OpenAI's own files have no prefix."""
        prefix = "transformer."
        return name if name.startswith((prefix, "lm_head.")) else prefix + name

    def ignores(self, name: str) -> bool:
        """Old files hold the causal mask."""
        return name.endswith((".attn.bias", ".attn.masked_bias"))

    def copies(self, config: Any) -> Mapping[str, str]:
        return {"lm_head.weight": "transformer.wte.weight"}
