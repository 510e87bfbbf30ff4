"""Llama's config and weight map, importable without TVM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import field_validator, model_validator

from mlc_llm.model.rope import rope
from mlc_llm.plugin import Architecture, AttentionSpec, ModelConfig, Rope, Weight

if TYPE_CHECKING:
    from tvm.relax.frontend import nn


class LlamaConfig(ModelConfig):
    """Llama's hyper-parameters."""

    intermediate_size: int
    rms_norm_eps: float
    tie_word_embeddings: bool = False

    @field_validator("rope_scaling")
    @classmethod
    def _name_rope_type(cls, scaling: dict[str, Any] | None) -> dict[str, Any] | None:
        """Put the type where newer files have it; None for plain RoPE."""
        scaling = dict(scaling or {})
        kind = scaling.pop("type", None)
        scaling.setdefault("rope_type", kind or "default")
        return scaling if len(scaling) > 1 or scaling["rope_type"] != "default" else None

    @model_validator(mode="after")
    def _check_rope(self) -> LlamaConfig:
        """Refuse what cannot be computed when the file is read."""
        self.rope()
        return self

    def rope(self) -> Rope:
        """The rotary position embedding of all layers."""
        window, positions = self.context_window_size, self.max_position_embeddings
        return rope(
            self.head_dim,
            self.position_embedding_base,
            self.rope_scaling,
            window=window if window > 0 else None,
            max_positions=positions if positions and positions > 0 else None,
        )

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

    def attention(self, config: Any) -> list[AttentionSpec]:
        window = config.sliding_window_size if config.sliding_window_size > 0 else None
        spec = AttentionSpec(
            query_heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            key_size=config.head_dim,
            value_size=config.head_dim,
            scale=config.head_dim**-0.5,
            rope=config.rope(),
            window=window,
            sink=max(0, config.attention_sink_size) if window else 0,
        )
        return [spec] * config.num_hidden_layers

    def module(self, config: Any, dtype: str) -> nn.Module:
        from mlc_llm.model.llama.module import LlamaForCausalLM

        return LlamaForCausalLM(config, self.attention(config), dtype)

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
