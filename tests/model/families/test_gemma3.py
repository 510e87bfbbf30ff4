"""Gemma 3, with a model for images and without."""

from __future__ import annotations

from mlc_llm.model.gemma3 import GEMMA3, GEMMA3_TEXT

from .conformance import FamilyConformance, Fields
from .gguf_layout import GGUFLayout, plus_one

VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
TEXT = {"num_hidden_layers": 3, "head_dim": 48, "query_pre_attn_scalar": 48, "sliding_window": 24}
LONGER = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}


class TestGemma3Text(FamilyConformance):
    architecture = GEMMA3_TEXT
    layout = None  # it is in that of the others
    variants = {
        "period": {**TEXT, "sliding_window_pattern": 2},
        "types of layers": {
            "head_dim": 32,
            "query_pre_attn_scalar": 24,
            "rope_parameters": LONGER,
            "layer_types": ["full_attention", "sliding_attention"],
            "final_logit_softcapping": 3.0,
            "attention_bias": True,
        },
    }
    refused = {
        "bounded scores": ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        "not causal": ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        "one RoPE": ({"rope_parameters": {"rope_theta": 1e4}}, "full_attention"),
        "local RoPE": (
            {"rope_parameters": {"sliding_attention": {"rope_type": "linear", "factor": 2.0}}},
            "must be plain",
        ),
    }

    def test_an_older_file(self, data: Fields) -> None:
        """It has its RoPE in several fields, and a period in the place of the types of layers."""
        older = {
            **data,
            "rope_parameters": None,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "layer_types": None,
            "sliding_window_pattern": 2,
        }
        newer = {**data, "rope_parameters": LONGER}
        assert self.architecture.config(older) == self.architecture.config(newer)


class TestGemma3(FamilyConformance):
    architecture = GEMMA3
    layout = "gemma3"
    variants = {
        "images": {
            "text_config": {**TEXT, "num_hidden_layers": 7, "rope_parameters": LONGER},
            "vision_config": VISION,
        }
    }
    gguf = GGUFLayout(
        "gemma3",
        settings={
            "rope.freq_base": lambda config: LONGER["full_attention"]["rope_theta"],
            "rope.scaling.type": lambda config: "linear",
            "rope.scaling.factor": lambda config: LONGER["full_attention"]["factor"],
        },
        changes={"norm": plus_one},
        left_out=("vision_tower", "multi_modal_projector"),
    )

    def test_a_published_file(self) -> None:
        """That of the 4B leaves out what has its default, the size of the vocabulary too."""
        scaling = {"rope_type": "linear", "factor": 8.0}
        text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
        config = self.architecture.config(
            {"text_config": {**text, "rope_scaling": scaling, "sliding_window": 1024}}
        )
        assert (config.vocab_size, config.max_position_embeddings) == (262208, 131072)
        assert config.layer_types.count("full_attention") == 5
        everywhere, local = (self.architecture.attention(config)[index] for index in (5, 0))
        assert (everywhere.window, local.window) == (None, 1024)
        assert everywhere.rope.frequencies[1] < local.rope.frequencies[1] / 8
