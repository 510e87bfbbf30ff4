"""IBM's Granite 3."""

from __future__ import annotations

from mlc_llm.model.granite import GRANITE

from .conformance import SIZES, FamilyConformance
from .gguf_layout import GGUFLayout, pairs

FACTORS = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.5,
    "residual_multiplier": 0.6,
    "logits_scaling": 5.0,
}


class TestGranite(FamilyConformance):
    architecture = GRANITE
    layout = None
    variants = {
        "factors": FACTORS,
        "biases": {
            **FACTORS,
            "residual_multiplier": 1.5,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
    }
    refused = {
        "a factor of nothing": ({"residual_multiplier": 0}, "residual_multiplier"),
        "an endless factor": ({"logits_scaling": float("inf")}, "logits_scaling"),
    }
    gguf = GGUFLayout(
        "granite",
        settings={
            "embedding_scale": lambda config: config["embedding_multiplier"],
            "attention.scale": lambda config: config["attention_multiplier"],
            "residual_scale": lambda config: config["residual_multiplier"],
            "logit_scale": lambda config: config["logits_scaling"],
        },
        changes={"attn_q.": pairs("num_attention_heads"), "attn_k.": pairs("num_key_value_heads")},
    )

    def test_config_of_older_files(self) -> None:
        """Without factors they are 1, also that of the scores, as in transformers."""
        old = GRANITE.config({**SIZES, "rope_theta": 1e6})
        parameters = {"rope_type": "default", "rope_theta": 1e6}
        assert old == GRANITE.config({**SIZES, "rope_parameters": parameters})
        assert [layer.scale for layer in GRANITE.attention(old)] == [1.0, 1.0]
