"""Llama 1 to 3."""

from __future__ import annotations

from mlc_llm.model.llama import LLAMA

from .conformance import FamilyConformance
from .gguf_layout import GGUFLayout, pairs

LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


class TestLlama(FamilyConformance):
    architecture = LLAMA
    layout = "llama"
    variants = {
        "plain": {"num_key_value_heads": 4},
        "llama 3": {"rope_parameters": LLAMA_3, "tie_word_embeddings": True, "head_dim": 48},
        "biases": {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu_new"},
    }
    refused = {
        "another activation": ({"hidden_act": "tanh"}, "activation"),
        "part of a head": ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary"),
    }
    gguf = GGUFLayout(
        "llama",
        settings={"rope.dimension_count": lambda config: config["head_dim"]},
        changes={"attn_q.": pairs("num_attention_heads"), "attn_k.": pairs("num_key_value_heads")},
    )
