"""Phi 3, 3.5 and 4: Llama with fused projections, and heads of which only a part may turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from mlc_llm.model.causal_lm import CausalLM, head_logits, through_layers, untied_head
from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.layer_windows import narrowed
from mlc_llm.model.layers import AttentionCache, Embedding, Linear, RMSNorm
from mlc_llm.model.llama import Llama, LlamaConfig, LlamaMLP
from mlc_llm.model.module import Module
from mlc_llm.plugin import AttentionSpec, Weight
from mlc_llm.plugin.architecture import Size
from mlc_llm.plugin.gguf import GGUFFamily
from mlc_llm.shown import shown

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

_ROPE_TYPES = ("default", "longrope", "su")
_TRAINED_LENGTH = "original_max_position_embeddings"


class Phi3Config(LlamaConfig):
    """The hyper-parameters, with the defaults of transformers' ``Phi3Config``.

    Args:
        sliding_window: positions that a query sees; None for all. Unlike ``sliding_window_size``,
            it leaves the context window its size.
    """

    rms_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)
    sliding_window: Size | None = None

    default_positions: ClassVar[int] = 4096

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("sliding_window") == 0:  # as GGUF files say that there is none
            del data["sliding_window"]
        scaling = data.get("rope_scaling") or data.get("rope_parameters")
        if isinstance(scaling, Mapping) and _TRAINED_LENGTH not in scaling:
            data.setdefault(_TRAINED_LENGTH, 4096)
        return super().fill(data)

    @model_validator(mode="after")
    def _check(self) -> Phi3Config:
        kind = (self.rope_scaling or {}).get("rope_type", "default")
        if kind not in _ROPE_TYPES:
            known = " or ".join(_ROPE_TYPES)
            raise ValueError(f"the RoPE type of Phi 3 must be {known}, not {shown(kind)}")
        if self.attention_bias or self.mlp_bias:
            raise ValueError("attention_bias and mlp_bias must be false: Phi 3 has no biases")
        return self


class Phi3Attention(Module):
    """The projections around a layer's attention. In checkpoints, too, the first is one tensor."""

    def __init__(self, config: Phi3Config, attention: AttentionSpec) -> None:
        self.qkv_proj = Linear(config.hidden_size, attention.qkv_width)
        self.out_proj = Linear(attention.out_width, config.hidden_size)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        return self.out_proj(kv_cache.attend(layer, self.qkv_proj(x)), add=residual)


class Phi3DecoderLayer(Module):
    """Llama's layer under MLC's names."""

    def __init__(self, config: Phi3Config, attention: AttentionSpec) -> None:
        self.ln = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mixer = Phi3Attention(config, attention)
        self.mlp = LlamaMLP(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.mixer(self.ln(x), kv_cache, layer, residual=x)
        return self.mlp(self.post_attention_layernorm(x), residual=x)


class Phi3Model(Module):
    """The table of tokens, the layers and the final norm, under MLC's names."""

    def __init__(self, config: Phi3Config, attention: Sequence[AttentionSpec]) -> None:
        self.embd = Embedding("vocab_size", config.hidden_size)
        self.h = [Phi3DecoderLayer(config, one) for one in attention]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Phi3ForCausalLM(CausalLM):
    """Phi 3's language model.

    Args:
        config: the hyper-parameters.
        attention: how each layer attends.
    """

    def __init__(self, config: Phi3Config, attention: Sequence[AttentionSpec]) -> None:
        self.transformer = Phi3Model(config, attention)
        self.lm_head = untied_head(config.tie_word_embeddings, config.hidden_size)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.transformer.embd(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return through_layers(self.transformer.h, hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        hidden = self.transformer.norm(hidden)
        return head_logits(hidden, self.lm_head, self.transformer.embd)


_LAYER = {
    "ln": "input_layernorm",
    "mixer.qkv_proj": "self_attn.qkv_proj",
    "mixer.out_proj": "self_attn.o_proj",
    "mlp.gate_up_proj": "mlp.gate_up_proj",
    "mlp.down_proj": "mlp.down_proj",
    "post_attention_layernorm": "post_attention_layernorm",
}
"""Names in a layer of the checkpoints by MLC's."""


class Phi3(Llama):
    """Phi 3 as Hugging Face's ``Phi3ForCausalLM`` lays it out."""

    name = "phi3"
    config_type = Phi3Config
    module_type = Phi3ForCausalLM
    gguf = GGUFFamily(
        "phi3",
        {
            **DECODER_TENSORS,
            "blk.*.attn_qkv": "model.layers.*.self_attn.qkv_proj",
            "blk.*.ffn_up": "model.layers.*.mlp.gate_up_proj",
        },
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        layers = super().attention(config)
        return [narrowed(layer, config.sliding_window) for layer in layers]

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("transformer.embd.weight", ("model.embed_tokens.weight",))]
        for index in range(config.num_hidden_layers):
            ours, theirs = f"transformer.h.{index}", f"model.layers.{index}"
            weights += [
                Weight(f"{ours}.{name}.weight", (f"{theirs}.{source}.weight",))
                for name, source in _LAYER.items()
            ]
        weights.append(Weight("transformer.norm.weight", ("model.norm.weight",)))
        if not config.tie_word_embeddings:
            weights.append(Weight("lm_head.weight"))
        return weights


PHI3 = Phi3()
