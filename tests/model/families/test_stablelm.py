"""StableLM."""

from __future__ import annotations

from mlc_llm.model.stablelm import STABLELM

from .conformance import FamilyConformance
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
