"""Gemma 2."""

from __future__ import annotations

from operator import itemgetter

import pytest

from mlc_llm.model.gemma2 import GEMMA2

from .conformance import FamilyConformance, Fields, older
from .gguf_layout import GGUFLayout, plus_one

CAPS = ("attn_logit_softcapping", "final_logit_softcapping")


class TestGemma2(FamilyConformance):
    architecture = GEMMA2
    layout = "gemma2"
    variants = {
        # Caps that bound what random weights give.
        "caps": {
            "head_dim": 48,
            "query_pre_attn_scalar": 48,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "sliding_window": 24,
        },
        "no caps": {
            "head_dim": 32,
            "query_pre_attn_scalar": 24,
            "layer_types": ["full_attention", "sliding_attention"],
            "sliding_window": 50,
            "attention_bias": True,
        },
    }
    refused = {
        "not causal": ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        "another kind of layer": ({"layer_types": ["linear_attention"] * 2}, "layer_types"),
    }
    gguf = GGUFLayout(
        "gemma2",
        settings={cap: itemgetter(cap) for cap in CAPS},
        changes={"norm": plus_one},
    )

    def fields(self, name: str) -> Fields:
        none = dict.fromkeys(CAPS) if name == "no caps" else {}
        return {**super().fields(name), **none}

    def test_a_cap_that_is_null(self, data: Fields) -> None:
        """It is none; one that is left out is the default."""
        name = "final_logit_softcapping"
        assert self.architecture.config({**data, name: None}).final_logit_softcapping == 0
        del data[name]
        assert self.architecture.config(data).final_logit_softcapping == 30

    def test_27b_of_a_file(self) -> None:
        """A GGUF file does not say by what the scores of the largest are divided."""
        make = self.architecture.gguf.implied["query_pre_attn_scalar"]
        sizes = {"hidden_size": 4608, "num_attention_heads": 32, "head_dim": 128}
        assert make({**sizes, "num_hidden_layers": 46}, ()) == 144
        assert make({**sizes, "num_hidden_layers": 42}, ()) == 128

    @pytest.mark.parametrize("base", ["rope_theta", "position_embedding_base"])
    def test_older_names(self, data: Fields, base: str) -> None:
        assert self.architecture.config(older(data, base)) == self.architecture.config(data)
