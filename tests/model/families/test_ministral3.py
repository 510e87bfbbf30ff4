"""Ministral 3, alone and as the part of a model that also sees."""

from __future__ import annotations

import json
import shutil

import pytest

from mlc_llm.model.ministral3 import MINISTRAL3
from mlc_llm.testing import raises
from mlc_llm.testing.workbench import Workbench

from .conformance import SIZES, VISION, FamilyConformance
from .gguf_layout import GGUFLayout, pairs

YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.3,
}
TEXT = {"head_dim": 48, "rope_parameters": YARN}


class TestMinistral3(FamilyConformance):
    architecture = MINISTRAL3
    layout = "ministral3"
    variants = {
        "yarn": {**TEXT, "tie_word_embeddings": True},
        "window": {
            **TEXT,
            "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.0, "mscale": 0.5},
            "sliding_window": 50,
            "num_key_value_heads": 4,
        },
        "vision": {
            "model_type": "mistral3",
            "text_config": {**TEXT, "model_type": "ministral3"},
            "vision_config": VISION,
            "tie_word_embeddings": False,
        },
    }
    refused = {
        "another activation": ({"hidden_act": "tanh"}, "activation"),
        "no length": (
            {"rope_parameters": {"rope_type": "default", "llama_4_scaling_beta": 0.1}},
            "original_max_position_embeddings",
        ),
        "shrinking queries": (
            {"rope_parameters": {**YARN, "llama_4_scaling_beta": -0.1}},
            "llama_4_scaling_beta",
        ),
    }
    gguf = GGUFLayout(
        "mistral3",
        settings={
            "rope.scaling.type": lambda config: "yarn",
            "rope.scaling.factor": lambda config: 16.0,
            "rope.scaling.original_context_length": lambda config: 32,
            "rope.scaling.yarn_beta_fast": lambda config: 32.0,
            "rope.scaling.yarn_beta_slow": lambda config: 1.0,
            "rope.scaling.yarn_log_multiplier": lambda config: 1.0,
            "attention.temperature_scale": lambda config: 0.3,
        },
        changes={"attn_q.": pairs("num_attention_heads"), "attn_k.": pairs("num_key_value_heads")},
    )

    def test_config_of_a_model_that_sees(self) -> None:
        text = {**SIZES, "rope_parameters": YARN, "tie_word_embeddings": False}
        alone = MINISTRAL3.config(text)
        tied = {"tie_word_embeddings": True}  # which transformers writes without looking
        whole = {"model_type": "mistral3", "text_config": text, "vision_config": VISION, **tied}
        assert MINISTRAL3.config(whole) == alone
        assert alone.head_dim == 128
        assert (alone.llama_4_scaling_beta, alone.scaling_length) == (0.3, 32)

    @pytest.mark.parametrize(
        ("head", "body"),
        [("", "model.language_model."), ("language_model.", "language_model.model.")],
    )
    def test_names_of_a_model_that_sees(self, head: str, body: str) -> None:
        """As transformers 5 has them in memory, and as files have them."""
        assert MINISTRAL3.rename(f"{head}lm_head.weight") == "lm_head.weight"
        assert MINISTRAL3.rename(f"{body}norm.weight") == "model.norm.weight"
        prefix = "" if head else "model."
        for part in ("vision_tower.ln_pre.weight", "multi_modal_projector.norm.weight"):
            assert MINISTRAL3.ignores(MINISTRAL3.rename(prefix + part))
        assert not MINISTRAL3.ignores("model.norm.weight")

    def test_config_without_what_has_a_default(self) -> None:
        """RoPE is yarn then; a file that says it is plain, and MLC's, have it as they say."""
        config = MINISTRAL3.config({**SIZES, "max_position_embeddings": None})
        assert config.context_window_size == 262144
        assert (config.llama_4_scaling_beta, config.scaling_length) == (0.1, 16384)
        assert config.position_embedding_base == 1e6
        assert config.rope().factor == 1
        plain = MINISTRAL3.config({**SIZES, "rope_theta": 1e4})
        assert plain.rope_scaling is None
        assert plain.llama_4_scaling_beta == 0

    @pytest.mark.slow
    def test_fp8_is_refused(self, workbench: Workbench) -> None:
        """The published instruction-tuned models have such weights beside those in bfloat16."""
        checkpoint = self.variant(workbench, "vision")
        copy = shutil.copytree(checkpoint, workbench.folder / "fp8")
        data = json.loads((copy / "config.json").read_text())
        data["quantization_config"] = {"quant_method": "fp8", "modules_to_not_convert": []}
        (copy / "config.json").write_text(json.dumps(data))
        with raises("model-quantized", "fp8"):
            workbench.convert(copy, "q0f32", self.architecture)
