"""The Llama family: Llama 1 to 3, TinyLlama, SmolLM and their fine-tunes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from mlc_llm.model.causal_lm import CausalLM, head_logits, through_layers, untied_head
from mlc_llm.model.gguf import LLAMA_FAMILY
from mlc_llm.model.layers import (
    ActivationName,
    AttentionCache,
    Embedding,
    GatedActivation,
    Linear,
    RMSNorm,
    activation_name,
)
from mlc_llm.model.module import Module
from mlc_llm.model.rotary import RotaryConfig
from mlc_llm.model.weights import linear_weights
from mlc_llm.plugin import Architecture, AttentionSpec, ModelConfig, Weight
from mlc_llm.plugin.architecture import Size
from mlc_llm.plugin.gguf import GGUFFamily
from mlc_llm.shown import shown

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class LlamaConfig(RotaryConfig):
    """Llama's hyper-parameters, with the defaults of transformers' ``LlamaConfig``."""

    intermediate_size: Size
    hidden_act: ActivationName = "silu"
    rms_norm_eps: float = Field(1e-6, ge=0, le=1, allow_inf_nan=False)
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False

    default_positions: ClassVar[int] = 2048

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        if "context_window_size" not in data:
            data.setdefault("max_position_embeddings", cls.default_positions)
        activation = activation_name(data.get("hidden_act", "silu"))
        return {**super().fill(data), "hidden_act": activation}

    @model_validator(mode="after")
    def _check(self) -> LlamaConfig:
        part = (self.rope_scaling or {}).get("partial_rotary_factor", 1)
        if part != 1:
            raise ValueError(
                f"partial_rotary_factor must be 1: heads turn whole, not {shown(part)}"
            )
        return self


class LlamaMLP(Module):
    """The feed-forward block: SwiGLU, or with another activation."""

    def __init__(self, config: LlamaConfig) -> None:
        hidden, ffn, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_up_proj = Linear(hidden, (ffn, ffn), bias=bias)
        self.act = GatedActivation(config.hidden_act)
        self.down_proj = Linear(ffn, hidden, bias=bias)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        return self.down_proj(self.act(self.gate_up_proj(x)), add=residual)


class LlamaAttention(Module):
    """The projections around a layer's attention."""

    def __init__(self, config: LlamaConfig, attention: AttentionSpec) -> None:
        hidden, bias = config.hidden_size, config.attention_bias
        self.qkv_proj = Linear(hidden, attention.qkv_parts, bias=bias)
        self.o_proj = Linear(attention.out_width, hidden, bias=bias)

    def forward(
        self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor | None = None
    ) -> Tensor:
        return self.o_proj(kv_cache.attend(layer, self.qkv_proj(x)), add=residual)


class LlamaDecoderLayer(Module):
    """Attention and feed-forward, each behind a norm and beside a residual.

    A variant may have another attention (``attention_type``) or another feed-forward block
    (``mlp_type``).
    """

    attention_type: Callable[..., Module] = LlamaAttention
    mlp_type: Callable[..., Module] = LlamaMLP

    def __init__(self, config: LlamaConfig, attention: AttentionSpec) -> None:
        self.self_attn = self.attention_type(config, attention)
        self.mlp = self.mlp_type(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        x = self.self_attn(self.input_layernorm(x), kv_cache, layer, residual=x)
        return self.mlp(self.post_attention_layernorm(x), residual=x)


class LlamaModel(Module):
    """The decoder stack and the final norm, which is applied to the rows that need logits."""

    def __init__(self, config: LlamaConfig, layers: Sequence[Module]) -> None:
        self.embed_tokens = Embedding("vocab_size", config.hidden_size)
        self.layers = list(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache) -> Tensor:
        return through_layers(self.layers, x, kv_cache)


class LlamaForCausalLM(CausalLM):
    """Llama's language model. A variant may have other layers (``layer_type``).

    Args:
        config: the hyper-parameters.
        attention: how each layer attends.
    """

    layer_type: Callable[..., Module] = LlamaDecoderLayer

    def __init__(self, config: LlamaConfig, attention: Sequence[AttentionSpec]) -> None:
        self.config = config
        self.model = LlamaModel(config, [self.layer_type(config, one) for one in attention])
        self.lm_head = untied_head(config.tie_word_embeddings, config.hidden_size)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.model.embed_tokens(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return self.model(hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        return head_logits(self.model.norm(hidden), self.lm_head, self.model.embed_tokens)


class Llama(Architecture):
    """Llama as Hugging Face's ``LlamaForCausalLM`` lays it out; the base of families like it.

    Attributes:
        qkv_name: what MLC's folders call the projection of queries, keys and values.
        output_bias: whether a bias in attention is also one of its output.
        layer_norms: the norms of a layer.
    """

    name = "llama"
    config_type: type[ModelConfig] = LlamaConfig
    module_type: Callable[[Any, Sequence[AttentionSpec]], CausalLM] = LlamaForCausalLM
    gguf: GGUFFamily | None = LLAMA_FAMILY
    qkv_name: ClassVar[str] = "qkv_proj"
    output_bias: ClassVar[bool] = True
    layer_norms: ClassVar[tuple[str, ...]] = ("input_layernorm", "post_attention_layernorm")

    def attention(self, config: Any) -> list[AttentionSpec]:
        return [config.attention()] * config.num_hidden_layers

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("model.embed_tokens.weight")]
        for index in range(config.num_hidden_layers):
            weights += self.layer_weights(config, f"model.layers.{index}")
        weights.append(Weight("model.norm.weight"))
        if not config.tie_word_embeddings:
            weights.append(Weight("lm_head.weight"))
        return weights

    def layer_weights(self, config: Any, layer: str) -> list[Weight]:
        """The weight map of a layer.

        Args:
            config: the hyper-parameters.
            layer: the layer's name.
        """
        return [
            *self.attention_weights(config, f"{layer}.self_attn"),
            *self.mlp_weights(config, f"{layer}.mlp"),
            *(Weight(f"{layer}.{norm}.weight") for norm in self.layer_norms),
        ]

    def attention_weights(self, config: Any, attention: str) -> list[Weight]:
        """The weight map of the module around a layer's attention.

        Args:
            config: the hyper-parameters.
            attention: the module's name.
        """
        qkv, bias = ("q_proj", "k_proj", "v_proj"), config.attention_bias
        return [
            *linear_weights(attention, self.qkv_name, qkv, bias=bias),
            *linear_weights(attention, "o_proj", bias=bias and self.output_bias),
        ]

    def mlp_weights(self, config: Any, mlp: str) -> list[Weight]:
        """The weight map of a layer's feed-forward block.

        Args:
            config: the hyper-parameters.
            mlp: the module's name.
        """
        gate_up, bias = ("gate_proj", "up_proj"), config.mlp_bias
        return [
            *linear_weights(mlp, "gate_up_proj", gate_up, bias=bias),
            *linear_weights(mlp, "down_proj", bias=bias),
        ]

    def ignores(self, name: str) -> bool:
        # Old checkpoints carry the table of RoPE's frequencies.
        return name.endswith("rotary_emb.inv_freq")

    def copies(self, config: Any) -> Mapping[str, str]:
        tied = {"lm_head.weight": "model.embed_tokens.weight"}
        return tied if config.tie_word_embeddings else {}


LLAMA = Llama()
