"""What the writers of random models have to know of a family: how its files differ from Llama's.

The matrices of all of these are Llama's. What differs is the norms, and what a configuration says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Norm:
    """A norm of each decoder layer.

    Args:
        checkpoint: its name in a layer of a checkpoint.
        file: its name in a block of a GGUF file.
        of_head: whether it has the size of a head, and not of the residual stream.
    """

    checkpoint: str
    file: str
    of_head: bool = False


@dataclass(frozen=True)
class Family:
    """The files of a family of models.

    Args:
        model_class: the name of its class in transformers.
        gguf: ``general.architecture`` in a GGUF file.
        norms: the norms of each layer.
        norm: the number in a checkpoint for a norm that multiplies by one.
        config: fields of ``config.json`` that take the place of Llama's, or stand beside them.
        settings: numbers of a GGUF file, beside Llama's.
        window_in_file: whether a GGUF file says how far attention slides.
    """

    model_class: str
    gguf: str
    norms: tuple[Norm, ...]
    norm: float = 1.0
    config: Mapping[str, str | float | None] = field(default_factory=dict)
    settings: Mapping[str, float] = field(default_factory=dict)
    window_in_file: bool = False


_LLAMA_NORMS = (
    Norm("input_layernorm", "attn_norm"),
    Norm("post_attention_layernorm", "ffn_norm"),
)

_HEAD_NORMS = (
    Norm("self_attn.q_norm", "attn_q_norm", of_head=True),
    Norm("self_attn.k_norm", "attn_k_norm", of_head=True),
)

FAMILIES: dict[str, Family] = {
    "llama": Family("LlamaForCausalLM", "llama", _LLAMA_NORMS),
    "mistral": Family("MistralForCausalLM", "llama", _LLAMA_NORMS),
    "qwen3": Family("Qwen3ForCausalLM", "qwen3", _LLAMA_NORMS + _HEAD_NORMS),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        "gemma3",
        (
            Norm("input_layernorm", "attn_norm"),
            Norm("post_attention_layernorm", "post_attention_norm"),
            Norm("pre_feedforward_layernorm", "ffn_norm"),
            Norm("post_feedforward_layernorm", "post_ffw_norm"),
            *_HEAD_NORMS,
        ),
        norm=0.0,
        config={
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            # Every sixth layer attends to all tokens.
            "sliding_window_pattern": 6,
            "rope_local_base_freq": 10000.0,
        },
        settings={"rope.freq_base_swa": 10000.0},
        window_in_file=True,
    ),
}
"""The families by the ``model_type`` of their checkpoints."""
