"""StableLM."""

from __future__ import annotations

import pytest

from mlc_llm.model.stablelm import STABLELM

from .conformance import FamilyConformance, Fields, older
from .gguf_layout import GGUFLayout


class TestStableLM(FamilyConformance):
    architecture = STABLELM
    layout = "stablelm"
    variants = {
        "plain": {},
        "biases": {
            "use_qkv_bias": True,
            "tie_word_embeddings": True,
            "rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 2e4},
        },
        "parallel": {"use_parallel_residual": True, "qk_layernorm": True},
    }
    refused = {"another activation": ({"hidden_act": "tanh"}, "activation")}
    gguf = GGUFLayout("stablelm", settings={"rope.dimension_count": lambda config: 8})

    @pytest.mark.parametrize("base", ["rope_theta", "position_embedding_base"])
    def test_older_names(self, data: Fields, base: str) -> None:
        assert self.architecture.config(older(data, base)) == self.architecture.config(data)
        without = {name: data[name] for name in data if name != "rope_parameters"}
        assert self.architecture.config(without).partial_rotary_factor == 0.25
