"""Gemma 2: Gemma with four norms a layer, soft caps, and a window in every other layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mlc_llm.model.gemma import Gemma, GemmaConfig, GemmaForCausalLM
from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.layer_windows import LayerWindowsConfig
from mlc_llm.model.layers import AttentionCache, RMSNorm, soft_cap
from mlc_llm.model.llama import LlamaDecoderLayer
from mlc_llm.model.weights import minus_one
from mlc_llm.plugin import AttentionSpec, ModelConfig
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class Gemma2Config(GemmaConfig, LayerWindowsConfig):
    """The hyper-parameters, with the defaults of transformers' ``Gemma2Config``.

    Args:
        query_pre_attn_scalar: scores are divided by its square root.
        attn_logit_softcapping: bound of the scores; 0 for none, which files write as null.
        final_logit_softcapping: bound of the logits, in the same way.
    """

    query_pre_attn_scalar: float = Field(256, gt=0, allow_inf_nan=False)
    attn_logit_softcapping: float = Field(50.0, ge=0, allow_inf_nan=False)
    final_logit_softcapping: float = Field(30.0, ge=0, allow_inf_nan=False)

    defaults: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "tie_word_embeddings": True,
        "sliding_window": 4096,
    }

    @classmethod
    def slides(cls, index: int, data: dict[str, Any]) -> bool:
        return index % 2 == 0


class Gemma2DecoderLayer(LlamaDecoderLayer):
    """Attention and feed-forward, each between two norms and beside a residual."""

    def __init__(self, config: Gemma2Config, attention: AttentionSpec) -> None:
        super().__init__(config, attention)
        self.pre_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_feedforward_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        attended = self.self_attn(self.input_layernorm(x), kv_cache, layer)
        x = self.post_attention_layernorm(attended, add=x)
        made = self.mlp(self.pre_feedforward_layernorm(x))
        return self.post_feedforward_layernorm(made, add=x)


class Gemma2ForCausalLM(GemmaForCausalLM):
    """Gemma's language model with logits that are bounded."""

    config: Gemma2Config
    layer_type = Gemma2DecoderLayer

    def logits(self, hidden: Tensor) -> Tensor:
        logits, cap = super().logits(hidden), self.config.final_logit_softcapping
        return soft_cap(logits, cap) if cap else logits


def _scalar_of_file(data: Mapping[str, Any], _: Collection[str]) -> Any:
    """``query_pre_attn_scalar`` of GGUF files, which llama.cpp tells by the number of layers."""
    hidden, heads = data.get("hidden_size"), data.get("num_attention_heads")
    is_27b = data.get("num_hidden_layers") in (46, 62)
    if is_27b and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        return hidden // heads
    return data.get("head_dim")


GEMMA2_TENSORS = {
    **DECODER_TENSORS,
    "blk.*.post_attention_norm": "model.layers.*.post_attention_layernorm",
    "blk.*.ffn_norm": "model.layers.*.pre_feedforward_layernorm",
    "blk.*.post_ffw_norm": "model.layers.*.post_feedforward_layernorm",
}


def gemma_family(
    architecture: str, tensors: Mapping[str, str], settings: Mapping[str, str]
) -> GGUFFamily:
    """GGUF files of Gemma 2 and later."""
    return GGUFFamily(
        architecture,
        tensors,
        settings={
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
            **settings,
        },
        implied={"query_pre_attn_scalar": _scalar_of_file},
        values={name: minus_one for name in tensors if name.endswith("norm")},
    )


class Gemma2(Gemma):
    """Gemma 2 as Hugging Face's ``Gemma2ForCausalLM`` lays it out."""

    name = "gemma2"
    config_type = Gemma2Config
    module_type: Callable[..., Any] = Gemma2ForCausalLM
    gguf: GGUFFamily | None = gemma_family("gemma2", GEMMA2_TENSORS, {})
    layer_norms = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )

    def config(self, data: Mapping[str, Any]) -> ModelConfig:
        caps = ("attn_logit_softcapping", "final_logit_softcapping")
        none = {name: 0 for name in caps if data.get(name, 0) is None}
        return super().config({**data, **none})

    def attention(self, config: Any) -> list[AttentionSpec]:
        scale, cap = config.query_pre_attn_scalar**-0.5, config.attn_logit_softcapping or None
        layers = [replace(one, scale=scale, soft_cap=cap) for one in super().attention(config)]
        windowed: list[AttentionSpec] = config.windowed(layers)
        return windowed


GEMMA2 = Gemma2()
