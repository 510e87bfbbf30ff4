"""Qwen 3."""

from __future__ import annotations

from mlc_llm.model.qwen3 import QWEN3

from .conformance import FamilyConformance
from .gguf_layout import GGUFLayout


class TestQwen3(FamilyConformance):
    architecture = QWEN3
    layout = "qwen3"
    variants = {
        "wide heads": {"head_dim": 48, "rope_theta": 1e6},
        "biases": {"head_dim": 32, "attention_bias": True, "tie_word_embeddings": True},
        "windows": {
            "head_dim": 32,
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 1,
        },
    }
    gguf = GGUFLayout("qwen3")
