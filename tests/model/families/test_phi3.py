"""Phi 3, 3.5 and 4."""

from __future__ import annotations

from math import log, sqrt
from typing import Any

import numpy as np

from mlc_llm.model.phi3 import PHI3

from .conformance import FamilyConformance
from .gguf_layout import GGUFLayout

PAIRS = 12
"""Pairs of a head of 32 elements that turn, three quarters of it."""

SHORT = [1 + 0.1 * index for index in range(PAIRS)]
LONG = [2 + 0.5 * index for index in range(PAIRS)]


def longrope(short: list[float], long: list[float], **fields: Any) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": short,
        "long_factor": long,
        "partial_rotary_factor": 0.75,
        **fields,
    }


class TestPhi3(FamilyConformance):
    architecture = PHI3
    layout = "phi3"
    variants = {
        "part of a head": {
            "rope_parameters": {"rope_theta": 1e5, "partial_rotary_factor": 0.75},
            "tie_word_embeddings": True,
        },
        "window": {"sliding_window": 20, "num_key_value_heads": 4, "hidden_act": "gelu_new"},
        # Which factors count depends on the window, and in transformers on the sequence.
        "longrope, short": {
            "rope_parameters": longrope(SHORT, LONG, attention_factor=1.2),
            "original_max_position_embeddings": 512,
        },
        "longrope, long": {
            "rope_parameters": longrope(LONG, LONG),
            "original_max_position_embeddings": 64,
        },
    }
    refused = {
        "another activation": ({"hidden_act": "tanh"}, "activation"),
        "another type of RoPE": ({"rope_parameters": {"rope_type": "yarn", "factor": 2}}, "RoPE"),
        "biases": ({"attention_bias": True}, "biases"),
    }
    gguf = GGUFLayout(
        "phi3",
        settings={
            "rope.dimension_count": lambda config: 2 * PAIRS,
            "rope.scaling.original_context_length": lambda config: 64,
            "rope.scaling.attn_factor": lambda config: sqrt(1 + log(8) / log(64)),
            "attention.sliding_window": lambda config: 0,
        },
        extra={
            f"rope_factors_{name}.weight": lambda config: np.array(LONG, np.float32)
            for name in ("long", "short")
        },
    )
    gguf_variant = "longrope, long"

    def test_config_of_older_files(self) -> None:
        """What transformers 4 wrote, and what MLC's folders have, are the same config."""
        sizes = {
            "hidden_size": 128,
            "intermediate_size": 176,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 320,
            "max_position_embeddings": 512,
        }
        scaling = longrope(SHORT, LONG, original_max_position_embeddings=64)
        new = PHI3.config({**sizes, "rope_parameters": scaling})
        kept = {name: scaling[name] for name in ("short_factor", "long_factor")}
        beside = {"partial_rotary_factor": 0.75, "original_max_position_embeddings": 64}
        old = {"rope_scaling": {"type": "su", **kept}, "rope_theta": 10000.0, **beside}
        mlc = {"rope_scaling": {"type": "longrope", **kept}, "position_embedding_base": 10000}
        for data in (old, {**mlc, **beside}):
            found = PHI3.config({**sizes, **data})
            assert found.rope() == new.rope()
            assert PHI3.attention(found) == PHI3.attention(new)
        assert len(new.rope().frequencies) == PAIRS
