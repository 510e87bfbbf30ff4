"""Mistral."""

from __future__ import annotations

from mlc_llm.model.mistral import MISTRAL

from .conformance import FamilyConformance


class TestMistral(FamilyConformance):
    architecture = MISTRAL
    layout = "mistral"
    variants = {
        "window": {"sliding_window": 50},
        "no window": {"sliding_window": None, "head_dim": 48, "rope_theta": 1e6},
    }
