"""Gemma, the first."""

from __future__ import annotations

import pytest

from mlc_llm.model.gemma import GEMMA

from .conformance import FamilyConformance, Fields, older
from .gguf_layout import GGUFLayout, plus_one


class TestGemma(FamilyConformance):
    architecture = GEMMA
    layout = "gemma"
    variants = {
        "wide heads": {"head_dim": 48, "num_key_value_heads": 1},
        "biases": {"head_dim": 32, "attention_bias": True, "rope_theta": 1e6},
    }
    refused = {
        "not causal": ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        "another activation": ({"hidden_act": "tanh"}, "activation"),
        "no approximation": ({"hidden_activation": "gelu"}, "hidden_activation"),
    }
    gguf = GGUFLayout("gemma", changes={"norm": plus_one})

    @pytest.mark.parametrize(
        "fields",
        [
            {"hidden_act": "gelu"},
            {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"},
            {"hidden_act": None, "hidden_activation": None},
        ],
    )
    def test_the_activation_has_a_tanh(self, data: Fields, fields: Fields) -> None:
        assert self.architecture.config({**data, **fields}) == self.architecture.config(data)

    @pytest.mark.parametrize("base", ["rope_theta", "position_embedding_base"])
    def test_older_names(self, data: Fields, base: str) -> None:
        assert self.architecture.config(older(data, base)) == self.architecture.config(data)
