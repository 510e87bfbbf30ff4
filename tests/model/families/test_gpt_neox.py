"""GPT-NeoX, Pythia and RedPajama-INCITE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlc_llm.model.gpt_neox import GPT_NEOX
from mlc_llm.testing.reference import Logits
from mlc_llm.testing.workbench import Workbench, largest_error

from .conformance import FamilyConformance, Fields, older
from .gguf_layout import Array, Config, GGUFLayout


def apart(values: Array, config: Config) -> Array:
    """The queries of all heads, then the keys, then the values, as the converter orders them."""
    heads = values.reshape(config["num_attention_heads"], 3, -1, *values.shape[1:])
    return np.concatenate([heads[:, part] for part in range(3)]).reshape(values.shape)


class TestGPTNeoX(FamilyConformance):
    architecture = GPT_NEOX
    layout = "gpt_neox"
    variants = {
        "parallel": {},
        "one after the other": {
            "use_parallel_residual": False,
            "rope_parameters": {"partial_rotary_factor": 1.0, "rope_theta": 2e4},
            "hidden_act": "gelu_fast",
        },
        "tied": {"tie_word_embeddings": True, "attention_bias": False},
    }
    refused = {"another activation": ({"hidden_act": "tanh"}, "activation")}
    gguf = GGUFLayout(
        "gptneox",
        settings={
            "use_parallel_residual": lambda config: config["use_parallel_residual"],
            "rope.dimension_count": lambda config: 8,
        },
        changes={"attn_qkv": apart},
    )

    @pytest.mark.slow
    def test_float16(self, checkpoint: Path, reference: Logits, workbench: Workbench) -> None:
        """MLC's folders have two biases of a layer in float32, whatever the rest is in."""
        folder = workbench.convert(checkpoint, "q0f16", self.architecture)
        model = workbench.load(folder, self.architecture, self.device)
        error, place = largest_error(model, reference)
        assert error <= 0.02, f"a logit is off by {error:.2g}, {place}"

    def test_an_older_file(self, data: Fields) -> None:
        """It has other names for what RoPE needs."""
        del data["rope_parameters"]
        older = self.architecture.config({**data, "rotary_pct": 0.5, "rotary_emb_base": 2e4})
        rope = {"partial_rotary_factor": 0.5, "rope_theta": 2e4, "rope_type": "default"}
        assert older == self.architecture.config({**data, "rope_parameters": rope})
        assert self.architecture.config(data).partial_rotary_factor == 0.25

    @pytest.mark.parametrize("base", ["rope_theta", "position_embedding_base"])
    def test_older_names(self, data: Fields, base: str) -> None:
        assert self.architecture.config(older(data, base)) == self.architecture.config(data)
