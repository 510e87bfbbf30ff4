"""Phi 1, 1.5 and 2: attention and feed-forward read one norm, and both are added."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mlc_llm.model.causal_lm import CausalLM, through_layers
from mlc_llm.model.layers import (
    Activation,
    ActivationName,
    AttentionCache,
    Embedding,
    LayerNorm,
    Linear,
    activation_name,
    norm_heads,
)
from mlc_llm.model.module import Module
from mlc_llm.model.rotary import PartRotaryConfig
from mlc_llm.plugin import Architecture, AttentionSpec, Weight
from mlc_llm.plugin.architecture import Size
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class PhiConfig(PartRotaryConfig):
    """The hyper-parameters, with the defaults of transformers' ``PhiConfig``.

    Files of the type ``phi-msft``, which came first, have other names for them.

    Args:
        joined_qkv: whether the checkpoint has queries, keys and values in one tensor.
    """

    intermediate_size: Size
    hidden_act: ActivationName
    layer_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)
    qk_layernorm: bool = False
    joined_qkv: bool = False
    tie_word_embeddings: Literal[False] = False

    default_part: ClassVar[float] = 0.5

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data = _common_names(data)
        if "context_window_size" not in data:
            data.setdefault("max_position_embeddings", 2048)
        data["hidden_act"] = activation_name(data.get("hidden_act", "gelu_new"))
        return super().fill(data)


_FIELDS = {
    "n_positions": "max_position_embeddings",
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_head_kv": "num_key_value_heads",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "layer_norm_eps",
    "activation_function": "hidden_act",
}
"""What Phi's first files call the fields."""


def _common_names(data: dict[str, Any]) -> dict[str, Any]:
    """The fields under their later names, and what the first files mean by leaving one out."""
    if "n_embd" not in data:
        return data
    # MLC writes 0 for some that are left out.
    data = {**{name: data[own] for own, name in _FIELDS.items() if data.get(own)}, **data}
    sizes = data["n_embd"], data.get("n_head"), data.get("rotary_dim", 32)
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError("n_embd, n_head and rotary_dim must be positive whole numbers")
    hidden, heads, turning = sizes
    found = {
        "intermediate_size": 4 * hidden,
        "partial_rotary_factor": turning * heads / hidden,
        "joined_qkv": True,
    }
    return {**found, **data}


class PhiAttention(Module):
    """The projections around a layer's attention."""

    def __init__(self, config: PhiConfig, attention: AttentionSpec) -> None:
        qkv = attention.qkv_width if config.joined_qkv else attention.qkv_parts
        self.Wqkv = Linear(config.hidden_size, qkv, bias=True)
        self.out_proj = Linear(attention.out_width, config.hidden_size, bias=True)
        self.spec = attention
        size, eps, normed = attention.key_size, config.layer_norm_eps, config.qk_layernorm
        self.q_layernorm = LayerNorm(size, eps) if normed else None
        self.k_layernorm = LayerNorm(size, eps) if normed else None

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        qkv = self.Wqkv(x)
        if self.q_layernorm is not None and self.k_layernorm is not None:
            qkv = norm_heads(qkv, self.spec, self.q_layernorm, self.k_layernorm)
        return self.out_proj(kv_cache.attend(layer, qkv), add=residual)


class PhiMLP(Module):
    """The feed-forward block."""

    def __init__(self, config: PhiConfig) -> None:
        self.fc1 = Linear(config.hidden_size, config.intermediate_size, bias=True)
        self.act = Activation(config.hidden_act)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size, bias=True)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)), add=residual)


class PhiLayer(Module):
    """Attention and feed-forward beside each other."""

    def __init__(self, config: PhiConfig, attention: AttentionSpec) -> None:
        self.ln = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mixer = PhiAttention(config, attention)
        self.mlp = PhiMLP(config)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        normed = self.ln(x)
        return self.mlp(normed, residual=self.mixer(normed, kv_cache, layer, residual=x))


class PhiModel(Module):
    """The embeddings and the layers."""

    def __init__(self, config: PhiConfig, attention: Sequence[AttentionSpec]) -> None:
        self.embd = Embedding("vocab_size", config.hidden_size)
        self.h = [PhiLayer(config, one) for one in attention]


class PhiHead(Module):
    """The last norm, and logits."""

    def __init__(self, config: PhiConfig) -> None:
        self.ln = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.linear = Linear(config.hidden_size, "vocab_size", bias=True, out_dtype="float32")

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.ln(x))


class PhiForCausalLM(CausalLM):
    """Phi's language model, under the names of its first files, which are MLC's."""

    def __init__(self, config: PhiConfig, attention: Sequence[AttentionSpec]) -> None:
        self.transformer = PhiModel(config, attention)
        self.lm_head = PhiHead(config)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.transformer.embd(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return through_layers(self.transformer.h, hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.lm_head(hidden)


_MODULES = {
    "transformer.embd.wte": "model.embed_tokens",
    "lm_head.ln": "model.final_layernorm",
    "lm_head.linear": "lm_head",
}
_IN_LAYER = {
    "ln": "input_layernorm",
    "mixer.Wqkv": "self_attn.qkv_proj",
    "mixer.out_proj": "self_attn.dense",
}
"""Modules of Hugging Face's files by their names in Phi's first ones."""

_LAYER = re.compile(r"transformer\.h\.(\d+)\.(.+)")


def _joined(data: Mapping[str, Any], tensors: Collection[str]) -> bool:
    return "blk.0.attn_qkv.weight" in tensors


class Phi(Architecture):
    """Phi as Hugging Face's ``PhiForCausalLM`` lays it out."""

    name = "phi"
    config_type = PhiConfig
    module_type: Callable[..., Any] = PhiForCausalLM
    gguf: GGUFFamily | None = GGUFFamily(
        "phi2",
        {
            "token_embd": "model.embed_tokens",
            "output_norm": "model.final_layernorm",
            "output": "lm_head",
            "blk.*.attn_norm": "model.layers.*.input_layernorm",
            "blk.*.attn_q": "model.layers.*.self_attn.q_proj",
            "blk.*.attn_k": "model.layers.*.self_attn.k_proj",
            "blk.*.attn_v": "model.layers.*.self_attn.v_proj",
            "blk.*.attn_qkv": "model.layers.*.self_attn.qkv_proj",
            "blk.*.attn_output": "model.layers.*.self_attn.dense",
            "blk.*.ffn_up": "model.layers.*.mlp.fc1",
            "blk.*.ffn_down": "model.layers.*.mlp.fc2",
        },
        implied={"partial_rotary_factor": lambda data, tensors: 1.0, "joined_qkv": _joined},
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        return [config.attention()] * config.num_hidden_layers

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("transformer.embd.weight", ("model.embed_tokens.weight",))]
        for index in range(config.num_hidden_layers):
            weights += _layer(config, index)
        return [
            *weights,
            *_both("lm_head.ln", "model.final_layernorm"),
            *_both("lm_head.linear", "lm_head"),
        ]

    def rename(self, name: str) -> str:
        module, _, part = name.rpartition(".")
        if found := _LAYER.fullmatch(module):
            inner = _IN_LAYER.get(found[2], found[2])
            return f"model.layers.{found[1]}.{inner}.{part}"
        return f"{_MODULES.get(module, module)}.{part}"

    def ignores(self, name: str) -> bool:
        return name.endswith("rotary_emb.inv_freq")


def _layer(config: PhiConfig, index: int) -> list[Weight]:
    ours, theirs = f"transformer.h.{index}", f"model.layers.{index}"
    qkv = ("qkv_proj",) if config.joined_qkv else ("q_proj", "k_proj", "v_proj")
    norms = ("q_layernorm", "k_layernorm") if config.qk_layernorm else ()
    return [
        *_both(f"{ours}.ln", f"{theirs}.input_layernorm"),
        *_both(f"{ours}.mixer.Wqkv", *(f"{theirs}.self_attn.{name}" for name in qkv)),
        *_both(f"{ours}.mixer.out_proj", f"{theirs}.self_attn.dense"),
        *(w for name in norms for w in _both(f"{ours}.mixer.{name}", f"{theirs}.self_attn.{name}")),
        *_both(f"{ours}.mlp.fc1", f"{theirs}.mlp.fc1"),
        *_both(f"{ours}.mlp.fc2", f"{theirs}.mlp.fc2"),
    ]


def _both(name: str, *sources: str) -> list[Weight]:
    """The weight and the bias of a module."""
    return [
        Weight(f"{name}.{part}", tuple(f"{source}.{part}" for source in sources))
        for part in ("weight", "bias")
    ]


class PhiMSFT(Phi):
    """Phi as its first files lay it out, which have another name for it."""

    name = "phi-msft"
    gguf = None


PHI = Phi()
PHI_MSFT = PhiMSFT()
