"""Gemma 3's language model: Gemma 2 with norms of heads in the place of soft caps.

Five of six layers attend in a window, and have a RoPE of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mlc_llm.model.causal_lm import CausalLM
from mlc_llm.model.gemma2 import (
    GEMMA2_TENSORS,
    Gemma2,
    Gemma2Config,
    Gemma2DecoderLayer,
    Gemma2ForCausalLM,
    gemma_family,
)
from mlc_llm.model.layers import AttentionCache, Linear, RMSNorm
from mlc_llm.model.module import Module
from mlc_llm.model.rope import rope
from mlc_llm.model.text_part import is_of_vision, text_name
from mlc_llm.model.weights import linear_weights
from mlc_llm.plugin import AttentionSpec, Weight
from mlc_llm.plugin.gguf import GGUFFamily
from mlc_llm.shown import shown

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class Gemma3Config(Gemma2Config):
    """The hyper-parameters of the text, with the defaults of transformers' ``Gemma3TextConfig``.

    They stand in a file's ``text_config``, or, of a model without vision, in the file itself.

    Args:
        position_embedding_base: RoPE's base of the layers without a window.
        rope_scaling: RoPE's scaling of the same layers; the others have none.
        rope_local_base_freq: RoPE's base of the layers with a window.
    """

    position_embedding_base: float = 1_000_000.0
    rope_local_base_freq: float = 10_000.0
    attn_logit_softcapping: float = Field(0.0, ge=0, le=0)
    final_logit_softcapping: float = Field(0.0, ge=0, allow_inf_nan=False)

    default_positions: ClassVar[int] = 131_072
    defaults: ClassVar[Mapping[str, Any]] = {**Gemma2Config.defaults, "vocab_size": 262_208}

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        text = data.pop("text_config", {})
        if not isinstance(text, Mapping):
            raise ValueError(f"text_config must be an object, not {shown(text)}")
        data = {**{name: value for name, value in text.items() if value is not None}, **data}
        return super().fill(_ropes_apart(data))

    @classmethod
    def slides(cls, index: int, data: dict[str, Any]) -> bool:
        period = data.get("sliding_window_pattern", 6)
        if not isinstance(period, int) or period < 1:
            raise ValueError(f"sliding_window_pattern must be a positive number, not {period!r}")
        return (index + 1) % period != 0


def _ropes_apart(data: dict[str, Any]) -> dict[str, Any]:
    """RoPE of each kind of layer under the names of older files, which have a field for each."""
    ropes = data.pop("rope_parameters", {})
    kinds = {"full_attention", "sliding_attention"}
    if not isinstance(ropes, Mapping) or not set(ropes) <= kinds:
        raise ValueError(f"rope_parameters must have {' and '.join(sorted(kinds))} and no more")
    everywhere, local = (dict(ropes.get(kind) or {}) for kind in sorted(kinds))
    if local.get("rope_type", "default") != "default":
        raise ValueError(
            f"RoPE of layers with a window must be plain, not {shown(local['rope_type'])}"
        )
    if "rope_theta" in local:
        data["rope_local_base_freq"] = local["rope_theta"]
    scaling = data.get("rope_scaling", {})
    return {**data, "rope_scaling": {**everywhere, **scaling}} if everywhere else data


class Gemma3Attention(Module):
    """The projections around a layer's attention, and norms of each head of queries and keys."""

    def __init__(self, config: Gemma3Config, attention: AttentionSpec) -> None:
        hidden, bias = config.hidden_size, config.attention_bias
        query, key, value = attention.qkv_parts
        self.q_proj = Linear(hidden, query, bias=bias)
        self.k_proj = Linear(hidden, key, bias=bias)
        self.v_proj = Linear(hidden, value, bias=bias)
        self.o_proj = Linear(attention.out_width, hidden, bias=bias)
        self.q_norm = RMSNorm(attention.key_size, config.rms_norm_eps)
        self.k_norm = RMSNorm(attention.key_size, config.rms_norm_eps)
        self.spec = attention

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        qkv = self.q_proj.joined(x, self.k_proj, self.v_proj)
        qkv = self.q_norm.of_heads(qkv, self.spec, self.k_norm)
        return self.o_proj(kv_cache.attend(layer, qkv))


class Gemma3DecoderLayer(Gemma2DecoderLayer):
    """Gemma 2's layer with Gemma 3's attention."""

    attention_type = Gemma3Attention


class Gemma3LanguageModel(Gemma2ForCausalLM):
    """Gemma 2's language model with Gemma 3's layers."""

    layer_type = Gemma3DecoderLayer


class Gemma3ForCausalLM(CausalLM):
    """The language model, which stands beside one for images in most checkpoints."""

    def __init__(self, config: Gemma3Config, attention: Sequence[AttentionSpec]) -> None:
        self.language_model = Gemma3LanguageModel(config, attention)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.language_model.embed(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return self.language_model.layers(hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.language_model.logits(hidden)


class Gemma3(Gemma2):
    """Gemma 3 as Hugging Face's ``Gemma3ForConditionalGeneration`` lays it out, without images."""

    name = "gemma3"
    config_type = Gemma3Config
    module_type = Gemma3ForCausalLM
    gguf: GGUFFamily | None = gemma_family(
        "gemma3",
        {
            **GEMMA2_TENSORS,
            "blk.*.attn_q_norm": "model.layers.*.self_attn.q_norm",
            "blk.*.attn_k_norm": "model.layers.*.self_attn.k_norm",
        },
        {"rope_local_base_freq": "rope.freq_base_swa"},
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        local = rope(config.head_dim, config.rope_local_base_freq)
        return [
            replace(layer, rope=local) if kind == "sliding_attention" else layer
            for layer, kind in zip(super().attention(config), config.layer_types, strict=True)
        ]

    def weights(self, config: Any) -> list[Weight]:
        of_text = super().weights(config)
        return [replace(weight, name=f"language_model.{weight.name}") for weight in of_text]

    def attention_weights(self, config: Any, attention: str) -> list[Weight]:
        projections = [
            weight
            for name in ("q_proj", "k_proj", "v_proj", "o_proj")
            for weight in linear_weights(attention, name, bias=config.attention_bias)
        ]
        norms = [Weight(f"{attention}.{name}.weight") for name in ("q_norm", "k_norm")]
        return [*projections, *norms]

    def rename(self, name: str) -> str:
        return text_name(name)

    def ignores(self, name: str) -> bool:
        return is_of_vision(name) or super().ignores(name)


class Gemma3Text(Gemma3):
    """Gemma 3 as Hugging Face's ``Gemma3ForCausalLM`` lays it out, which knows no images."""

    name = "gemma3_text"
    gguf = None


GEMMA3 = Gemma3()
GEMMA3_TEXT = Gemma3Text()
