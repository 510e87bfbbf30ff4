"""StableLM: LayerNorm, partly turned heads, and SwiGLU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mlc_llm.model import op
from mlc_llm.model.causal_lm import CausalLM, head_logits, through_layers, untied_head
from mlc_llm.model.gguf import DECODER_TENSORS
from mlc_llm.model.layers import (
    ActivationName,
    AttentionCache,
    Embedding,
    GatedActivation,
    LayerNorm,
    Linear,
    activation_name,
    norm_heads,
)
from mlc_llm.model.module import Module, Parameter
from mlc_llm.model.rotary import PartRotaryConfig
from mlc_llm.model.weights import linear_weights, stacked
from mlc_llm.plugin import Architecture, AttentionSpec, Weight
from mlc_llm.plugin.architecture import Size
from mlc_llm.plugin.gguf import GGUFFamily

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor


class StableLMConfig(PartRotaryConfig):
    """The hyper-parameters, with the defaults of transformers' ``StableLmConfig``.

    Args:
        use_parallel_residual: whether attention and feed-forward read one norm, beside each other.
        qk_layernorm: whether each head of queries and of keys has a norm of its own.
        stacked_norms: whether the checkpoint has the norms of all heads in one tensor.
    """

    intermediate_size: Size
    hidden_act: ActivationName
    layer_norm_eps: float = Field(1e-5, ge=0, le=1, allow_inf_nan=False)
    use_qkv_bias: bool = False
    use_parallel_residual: bool = False
    qk_layernorm: bool = False
    stacked_norms: bool = False
    tie_word_embeddings: bool = False

    default_part: ClassVar[float] = 0.25

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        if "context_window_size" not in data:
            data.setdefault("max_position_embeddings", 4096)
        data.setdefault("num_key_value_heads", 32)
        data.pop("head_dim", None)  # which follows
        data["hidden_act"] = activation_name(data.get("hidden_act", "silu"))
        return super().fill(data)


class StableLMHeadNorms(Module):
    """A LayerNorm without bias of each head."""

    def __init__(self, heads: int, size: int, eps: float) -> None:
        self.size, self.eps = size, eps
        self.weight: Any = Parameter((heads, size))

    def forward(self, x: Tensor) -> Tensor:
        """(tokens, heads, size) to the same shape."""
        one, zero = op.ones((self.size,), x.dtype), op.zeros((self.size,), x.dtype)
        return op.layer_norm(x, self.size, one, zero, self.eps) * op.astype(self.weight, x.dtype)


class StableLMAttention(Module):
    """The projections around a layer's attention."""

    def __init__(self, config: StableLMConfig, attention: AttentionSpec) -> None:
        self.qkv_proj = Linear(config.hidden_size, attention.qkv_parts, bias=config.use_qkv_bias)
        self.o_proj = Linear(attention.out_width, config.hidden_size)
        self.spec, self.normed = attention, config.qk_layernorm
        if config.qk_layernorm:
            size, eps = attention.key_size, config.layer_norm_eps
            self.q_layernorm = StableLMHeadNorms(attention.query_heads, size, eps)
            self.k_layernorm = StableLMHeadNorms(attention.kv_heads, size, eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int, residual: Tensor) -> Tensor:
        qkv = self.qkv_proj(x)
        if self.normed:
            qkv = norm_heads(qkv, self.spec, self.q_layernorm, self.k_layernorm)
        return self.o_proj(kv_cache.attend(layer, qkv), add=residual)


class StableLMMLP(Module):
    """The feed-forward block: SwiGLU."""

    def __init__(self, config: StableLMConfig) -> None:
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = Linear(hidden, (inner, inner))
        self.act = GatedActivation(config.hidden_act)
        self.down_proj = Linear(inner, hidden)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.down_proj(self.act(self.gate_up_proj(x)), add=residual)


class StableLMLayer(Module):
    """Attention and feed-forward: one after the other, or beside each other behind one norm."""

    def __init__(self, config: StableLMConfig, attention: AttentionSpec) -> None:
        self.self_attn = StableLMAttention(config, attention)
        self.mlp = StableLMMLP(config)
        hidden, eps, parallel = (
            config.hidden_size,
            config.layer_norm_eps,
            config.use_parallel_residual,
        )
        self.input_layernorm = LayerNorm(hidden, eps)
        self.post_attention_layernorm = None if parallel else LayerNorm(hidden, eps)

    def forward(self, x: Tensor, kv_cache: AttentionCache, layer: int) -> Tensor:
        normed = self.input_layernorm(x)
        x = self.self_attn(normed, kv_cache, layer, residual=x)
        if self.post_attention_layernorm is not None:
            normed = self.post_attention_layernorm(x)
        return self.mlp(normed, residual=x)


class StableLMModel(Module):
    """The embeddings, the layers and the last norm."""

    def __init__(self, config: StableLMConfig, attention: Sequence[AttentionSpec]) -> None:
        self.embed_tokens = Embedding("vocab_size", config.hidden_size)
        self.layers = [StableLMLayer(config, one) for one in attention]
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)


class StableLMForCausalLM(CausalLM):
    """StableLM's language model."""

    def __init__(self, config: StableLMConfig, attention: Sequence[AttentionSpec]) -> None:
        self.model = StableLMModel(config, attention)
        self.lm_head = untied_head(config.tie_word_embeddings, config.hidden_size)

    def embed(self, token_ids: Tensor) -> Tensor:
        return self.model.embed_tokens(token_ids)

    def layers(self, hidden: Tensor, kv_cache: AttentionCache) -> Tensor:
        return through_layers(self.model.layers, hidden, kv_cache)

    def logits(self, hidden: Tensor) -> Tensor:
        hidden = self.model.norm(hidden)
        return head_logits(hidden, self.lm_head, self.model.embed_tokens)


class StableLM(Architecture):
    """StableLM as Hugging Face's ``StableLmForCausalLM`` lays it out."""

    name = "stablelm"
    config_type = StableLMConfig
    module_type: Callable[..., Any] = StableLMForCausalLM
    gguf = GGUFFamily(
        "stablelm",
        {
            **DECODER_TENSORS,
            "blk.*.attn_q_norm": "model.layers.*.self_attn.q_layernorm",
            "blk.*.attn_k_norm": "model.layers.*.self_attn.k_layernorm",
        },
        implied={
            "partial_rotary_factor": lambda data, tensors: 1.0,
            "use_qkv_bias": lambda data, tensors: data["attention_bias"],
            # The files have a key for it, which old ones set wrongly.
            "use_parallel_residual": lambda data, tensors: "blk.0.ffn_norm.weight" not in tensors,
            "qk_layernorm": lambda data, tensors: "blk.0.attn_q_norm.weight" in tensors,
            "stacked_norms": lambda data, tensors: True,
        },
    )

    def attention(self, config: Any) -> list[AttentionSpec]:
        return [config.attention()] * config.num_hidden_layers

    def weights(self, config: Any) -> list[Weight]:
        weights = [Weight("model.embed_tokens.weight")]
        for index in range(config.num_hidden_layers):
            weights += _layer(config, f"model.layers.{index}")
        weights += linear_weights("model", "norm", bias=True)
        return weights if config.tie_word_embeddings else [*weights, Weight("lm_head.weight")]

    def ignores(self, name: str) -> bool:
        return name.endswith("rotary_emb.inv_freq")

    def copies(self, config: Any) -> Mapping[str, str]:
        tied = {"lm_head.weight": "model.embed_tokens.weight"}
        return tied if config.tie_word_embeddings else {}


def _layer(config: StableLMConfig, layer: str) -> list[Weight]:
    attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
    qkv = ("q_proj", "k_proj", "v_proj")
    norms = ["input_layernorm"]
    if not config.use_parallel_residual:
        norms.append("post_attention_layernorm")
    return [
        *linear_weights(attention, "qkv_proj", qkv, bias=config.use_qkv_bias),
        *linear_weights(attention, "o_proj"),
        *(_head_norms(config, attention) if config.qk_layernorm else ()),
        *linear_weights(mlp, "gate_up_proj", ("gate_proj", "up_proj")),
        *linear_weights(mlp, "down_proj"),
        *(weight for norm in norms for weight in linear_weights(layer, norm, bias=True)),
    ]


def _head_norms(config: StableLMConfig, attention: str) -> list[Weight]:
    counts = {"q_layernorm": config.num_attention_heads, "k_layernorm": config.num_key_value_heads}
    if config.stacked_norms:
        return [Weight(f"{attention}.{name}.weight") for name in counts]
    return [
        Weight(
            f"{attention}.{name}.weight",
            tuple(f"{attention}.{name}.norms.{head}.weight" for head in range(count)),
            make=stacked,
        )
        for name, count in counts.items()
    ]


STABLELM = StableLM()
