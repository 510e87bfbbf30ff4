"""Llama's config and weight map, importable without TVM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import field_validator, model_validator

from mlc_llm.plugin import Architecture, ModelConfig, Weight

if TYPE_CHECKING:
    from tvm.relax.frontend import nn

ROPE_TYPES = ("default", "linear", "llama3")


class LlamaConfig(ModelConfig):
    """Llama's hyper-parameters."""

    intermediate_size: int
    rms_norm_eps: float
    tie_word_embeddings: bool = False

    @field_validator("rope_scaling")
    @classmethod
    def _check_rope(cls, scaling: dict[str, Any] | None) -> dict[str, Any] | None:
        if not scaling:
            return None
        scaling = dict(scaling)
        kind = scaling.pop("type", None)
        scaling.setdefault("rope_type", kind or "default")
        if scaling["rope_type"] not in ROPE_TYPES:
            raise ValueError(
                f"RoPE scaling {scaling['rope_type']!r} is not supported; "
                f"supported: {', '.join(ROPE_TYPES)}"
            )
        return None if scaling["rope_type"] == "default" else scaling

    @model_validator(mode="before")
    @classmethod
    def _refuse_variants(cls, data: Any) -> Any:
        """Refuse what would be computed wrongly rather than ignore it."""
        if isinstance(data, Mapping):
            if data.get("hidden_act", "silu") not in ("silu", "swish"):
                raise ValueError(f"hidden_act {data['hidden_act']!r} is not supported, only 'silu'")
            for bias in ("attention_bias", "mlp_bias"):
                if data.get(bias):
                    raise ValueError(f"{bias} is not supported")
        return data


class Llama(Architecture):
    """Llama as Hugging Face's ``LlamaForCausalLM`` lays it out."""

    name = "llama"

    def config(self, data: Mapping[str, Any]) -> LlamaConfig:
        return LlamaConfig.model_validate(data)

    def module(self, config: Any, dtype: str) -> nn.Module:
        from mlc_llm.model.llama.module import LlamaForCausalLM

        return LlamaForCausalLM(config, dtype)

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("model.embed_tokens.weight", ("model.embed_tokens.weight",))]
        for index in range(config.num_hidden_layers):
            weights += self._layer(f"model.layers.{index}")
        weights.append(Weight("model.norm.weight", ("model.norm.weight",), quantize=False))
        if not config.tie_word_embeddings:
            weights.append(Weight("lm_head.weight", ("lm_head.weight",)))
        return weights

    @staticmethod
    def _layer(layer: str) -> list[Weight]:
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        heads = tuple(f"{attention}.{part}_proj.weight" for part in "qkv")
        gate_up = (f"{mlp}.gate_proj.weight", f"{mlp}.up_proj.weight")
        norms = [f"{layer}.input_layernorm.weight", f"{layer}.post_attention_layernorm.weight"]
        return [
            Weight(f"{attention}.qkv_proj.weight", heads),
            Weight(f"{attention}.o_proj.weight", (f"{attention}.o_proj.weight",)),
            Weight(f"{mlp}.gate_up_proj.weight", gate_up),
            Weight(f"{mlp}.down_proj.weight", (f"{mlp}.down_proj.weight",)),
            *(Weight(norm, (norm,), quantize=False) for norm in norms),
        ]

    def ignores(self, name: str) -> bool:
        # Old checkpoints carry the table of RoPE's frequencies; tied ones may repeat lm_head.
        return name.endswith("rotary_emb.inv_freq") or name == "lm_head.weight"


LLAMA = Llama()
