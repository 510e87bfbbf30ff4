"""SmolLM 3."""

from __future__ import annotations

from mlc_llm.model.smollm3 import SMOLLM3

from .conformance import SIZES, FamilyConformance
from .gguf_layout import GGUFLayout, pairs


class TestSmolLM3(FamilyConformance):
    architecture = SMOLLM3
    layout = None
    variants = {
        "by the interval": {
            "no_rope_layer_interval": 2,
            "use_sliding_window": True,
            "sliding_window": 20,
        },
        "by a list": {
            "no_rope_layers": [0, 1, 1],
            "tie_word_embeddings": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
            "attention_bias": True,
            "mlp_bias": True,
        },
        "other layers slide": {
            "no_rope_layers": [0, 1],
            "layer_types": ["full_attention", "sliding_attention"],
            "use_sliding_window": True,
            "sliding_window": 20,
        },
        "four layers": {"num_hidden_layers": 4},
    }
    refused = {
        "too few layers": ({"no_rope_layers": [1]}, "no_rope_layers has 1"),
        "no window": ({"layer_types": ["sliding_attention"] * 2, "sliding_window": None}, "window"),
    }
    gguf = GGUFLayout(
        "smollm3",
        changes={"attn_q.": pairs("num_attention_heads"), "attn_k.": pairs("num_key_value_heads")},
    )
    gguf_variant = "four layers"

    def test_config_of_older_files(self) -> None:
        """By the interval alone, the config is the one that transformers 5 writes in full."""
        written = {
            "no_rope_layers": [1, 0],
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6},
        }
        short = {"no_rope_layer_interval": 2, "rope_theta": 5e6}
        window = {"use_sliding_window": True, "sliding_window": 20}
        new, old = (SMOLLM3.config({**SIZES, **window, **data}) for data in (written, short))
        assert new == old
        assert SMOLLM3.attention(old)[1].rope is None
        unsaid = SMOLLM3.config({**SIZES, "num_hidden_layers": 36})
        without = [i for i, layer in enumerate(SMOLLM3.attention(unsaid)) if layer.rope is None]
        assert without == list(range(3, 36, 4))
        assert unsaid.position_embedding_base == 2e6
        assert unsaid.tie_word_embeddings
