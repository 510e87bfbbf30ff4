"""Qwen 2 and 2.5."""

from __future__ import annotations

from mlc_llm.model.qwen2 import QWEN2

from .conformance import FamilyConformance
from .gguf_layout import GGUFLayout


class TestQwen2(FamilyConformance):
    architecture = QWEN2
    layout = "qwen2"
    variants = {
        "windows": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
        "tied": {"tie_word_embeddings": True, "rope_theta": 1e6, "num_key_value_heads": 4},
    }
    refused = {
        "another activation": ({"hidden_act": "tanh"}, "the activation"),
        "another kind of layer": ({"layer_types": ["linear_attention"] * 2}, "layer_types"),
    }
    gguf = GGUFLayout("qwen2")
    gguf_variant = "tied"
