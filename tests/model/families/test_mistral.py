"""Mistral."""

from __future__ import annotations

from mlc_llm.model.mistral import MISTRAL

from .conformance import VISION, FamilyConformance
from .gguf_layout import GGUFLayout, pairs


class TestMistral(FamilyConformance):
    architecture = MISTRAL
    layout = "mistral"
    variants = {
        "window": {"sliding_window": 50},
        "no window": {"sliding_window": None, "head_dim": 48, "rope_theta": 1e6},
        "vision": {
            "model_type": "mistral3",
            "text_config": {"model_type": "mistral", "head_dim": 32, "sliding_window": None},
            "vision_config": VISION,
            "tie_word_embeddings": False,
        },
    }
    gguf = GGUFLayout(
        "llama",
        changes={"attn_q.": pairs("num_attention_heads"), "attn_k.": pairs("num_key_value_heads")},
    )
    gguf_variant = "no window"  # of which such a file says nothing
