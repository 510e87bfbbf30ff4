"""OLMo 2."""

from __future__ import annotations

from mlc_llm.model.olmo2 import OLMO2

from .conformance import SIZES, FamilyConformance
from .gguf_layout import GGUFLayout


class TestOlmo2(FamilyConformance):
    architecture = OLMO2
    layout = "olmo2"
    variants = {
        "grouped": {},
        "biases": {
            "num_key_value_heads": 4,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
    }
    refused = {
        "another activation": ({"hidden_act": "tanh"}, "activation"),
        "OLMo 3": ({"sliding_window": 4096}, "OLMo 3"),
    }
    gguf = GGUFLayout("olmo2")

    def test_config_of_older_files(self) -> None:
        old = OLMO2.config({**SIZES, "rope_theta": 5e5})
        parameters = {"rope_type": "default", "rope_theta": 5e5}
        assert old == OLMO2.config({**SIZES, "rope_parameters": parameters})
        assert old.rms_norm_eps == 1e-5
