"""OpenAI's GPT-2: LayerNorm, learned positions, and matrices that checkpoints hold transposed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from mlc_llm.model.causal_lm import CausalLM, through_layers
from mlc_llm.model.layers import (
    Activation,
    ActivationName,
    AttentionCache,
    Embedding,
    LayerNorm,
    Linear,
    activation_name,
)
from mlc_llm.model.module import Module
from mlc_llm.model.weights import linear_weights, transposed
from mlc_llm.plugin import Architecture, AttentionSpec, ModelConfig, Weight
from mlc_llm.plugin.architecture import Size
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

_FIELDS = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "n_head": "num_attention_heads"}
"""Fields by another name that files may have for them."""


class GPT2Config(ModelConfig):
    """The hyper-parameters, with the defaults of transformers' ``GPT2Config``.

    Args:
        n_head: heads of attention.
        n_positions: rows of the table of positions.
        n_inner: width of the feed-forward block; four times the hidden size if left out.
        conv1d: whether the checkpoint holds matrices as (in, out).
    """

    n_head: Size
    n_positions: Size
    n_inner: Size
    activation_function: ActivationName
    layer_norm_epsilon: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    conv1d: bool = True
    add_cross_attention: Literal[False] = False
    sliding_window_size: Literal[-1] = -1

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data = {**{name: data[other] for name, other in _FIELDS.items() if other in data}, **data}
        positions = data.get("n_positions", data.get("max_position_embeddings", 1024))
        data |= dict.fromkeys(("n_positions", "max_position_embeddings"), positions)
        hidden = data.get("hidden_size")
        # MLC writes -1 where a file leaves it out.
        if data.get("n_inner", -1) == -1 and isinstance(hidden, int):
            data["n_inner"] = 4 * hidden
        act = activation_name(data.get("activation_function", "gelu_new"))
        return super().fill({**data, "activation_function": act})

    @model_validator(mode="after")
    def _check(self) -> GPT2Config:
        if self.hidden_size % self.n_head:
            raise ValueError(f"n_embd must be a multiple of n_head ({self.n_head})")
        if self.context_window_size > self.n_positions:
            raise ValueError(f"the context window must be at most n_positions ({self.n_positions})")
        return self


class GPT2Attention(Module):
    """The projections around a layer's attention."""

    def __init__(self, config: GPT2Config, attention: AttentionSpec) -> None:
        self.c_attn = Linear(config.hidden_size, attention.qkv_width, bias=True)
        self.c_proj = Linear(attention.out_width, config.hidden_size, bias=True)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        return self.c_proj(kv_cache.attend(layer, self.c_attn(x)), add=residual)


class GPT2MLP(Module):
    """The feed-forward block."""

    def __init__(self, config: GPT2Config) -> None:
        self.c_fc = Linear(config.hidden_size, config.n_inner, bias=True)
        self.act = Activation(config.activation_function)
        self.c_proj = Linear(config.n_inner, config.hidden_size, bias=True)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.c_proj(self.act(self.c_fc(x)), add=residual)


class GPT2Block(Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, config: GPT2Config, attention: AttentionSpec) -> None:
        self.ln_1 = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = GPT2Attention(config, attention)
        self.ln_2 = LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.attn(self.ln_1(x), kv_cache, layer, residual=x)
        return self.mlp(self.ln_2(x), residual=x)


class GPT2Model(Module):
    """The embeddings of tokens and of positions, the layers and the last norm."""

    def __init__(self, config: GPT2Config, attention: Sequence[AttentionSpec]) -> None:
        self.wte = Embedding("vocab_size", config.hidden_size)
        self.wpe = Embedding(config.n_positions, config.hidden_size)
        self.h = [GPT2Block(config, one) for one in attention]
        self.ln_f = LayerNorm(config.hidden_size, config.layer_norm_epsilon)


class GPT2LMHeadModel(CausalLM):
    """GPT-2's language model. A tied head is a parameter of its own, as in MLC's folders."""

    def __init__(self, config: GPT2Config, attention: Sequence[AttentionSpec]) -> None:
        self.transformer = GPT2Model(config, attention)
        self.lm_head = Linear(config.hidden_size, "vocab_size", out_dtype="float32")

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.transformer.wte(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        hidden = hidden + self.transformer.wpe(kv_cache.positions)
        return through_layers(self.transformer.h, hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(self.transformer.ln_f(hidden))


class GPT2(Architecture):
    """GPT-2 as Hugging Face's ``GPT2LMHeadModel`` lays it out."""

    name = "gpt2"
    config_type = GPT2Config
    module_type: Callable[..., Any] = GPT2LMHeadModel
    gguf = GGUFFamily(
        "gpt2",
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
            "blk.*.attn_norm": "transformer.h.*.ln_1",
            "blk.*.attn_qkv": "transformer.h.*.attn.c_attn",
            "blk.*.attn_output": "transformer.h.*.attn.c_proj",
            "blk.*.ffn_norm": "transformer.h.*.ln_2",
            "blk.*.ffn_up": "transformer.h.*.mlp.c_fc",
            "blk.*.ffn_down": "transformer.h.*.mlp.c_proj",
        },
        settings={
            "n_inner": "feed_forward_length",
            "layer_norm_epsilon": "attention.layer_norm_epsilon",
        },
        # llama.cpp's converter transposes the matrices.
        implied={"conv1d": lambda data, tensors: False},
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        heads, size = config.n_head, config.hidden_size // config.n_head
        scale = size**-0.5 if config.scale_attn_weights else 1.0
        inverse = config.scale_attn_by_inverse_layer_idx
        return [
            AttentionSpec(heads, heads, size, size, scale / (index + 1) if inverse else scale)
            for index in range(config.num_hidden_layers)
        ]

    def weights(self, config: Any) -> list[Weight]:
        tables = [Weight("transformer.wte.weight"), Weight("transformer.wpe.weight")]
        layers = [
            weight
            for index in range(config.num_hidden_layers)
            for weight in _layer(config, f"transformer.h.{index}")
        ]
        head = "transformer.wte.weight" if config.tie_word_embeddings else "lm_head.weight"
        norm = linear_weights("transformer", "ln_f", bias=True)
        return [*tables, *layers, *norm, Weight("lm_head.weight", (head,))]

    def rename(self, name: str) -> str:
        # OpenAI's own files have no prefix.
        prefix = "transformer."
        return name if name.startswith((prefix, "lm_head.")) else prefix + name

    def ignores(self, name: str) -> bool:
        # Old files hold the causal mask.
        return name.endswith((".attn.bias", ".attn.masked_bias"))

    def copies(self, config: Any) -> Mapping[str, str]:
        tied = {"lm_head.weight": "transformer.wte.weight"}
        return tied if config.tie_word_embeddings else {}


def _layer(config: GPT2Config, block: str) -> list[Weight]:
    return [
        *linear_weights(block, "ln_1", bias=True),
        *_matrix(config, f"{block}.attn.c_attn"),
        *_matrix(config, f"{block}.attn.c_proj"),
        *linear_weights(block, "ln_2", bias=True),
        *_matrix(config, f"{block}.mlp.c_fc"),
        *_matrix(config, f"{block}.mlp.c_proj"),
    ]


def _matrix(config: GPT2Config, name: str) -> list[Weight]:
    make = transposed if config.conv1d else None
    return [Weight(f"{name}.weight", make=make), Weight(f"{name}.bias")]


GPT_2 = GPT2()
