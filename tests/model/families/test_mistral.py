"""Mistral."""

from __future__ import annotations

from mlc_llm.model.mistral import MISTRAL

from .conformance import FamilyConformance
from .gguf_layout import GGUFLayout, pairs


class TestMistral(FamilyConformance):
    architecture = MISTRAL
    layout = "mistral"
    variants = {
        "window": {"sliding_window": 50},
        "no window": {"sliding_window": None, "head_dim": 48, "rope_theta": 1e6},
    }
    gguf = GGUFLayout(
        "llama",
        changes={"attn_q.": pairs("num_attention_heads"), "attn_k.": pairs("num_key_value_heads")},
    )
    gguf_variant = "no window"  # of which such a file says nothing
