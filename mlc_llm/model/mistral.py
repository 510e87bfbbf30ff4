"""Mistral: Llama with attention in a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlc_llm.model.llama import Llama, LlamaConfig


class MistralConfig(LlamaConfig):
    """Mistral's hyper-parameters; ``sliding_window_size`` is -1 where a version has none."""


class Mistral(Llama):
    """Mistral as Hugging Face's ``MistralForCausalLM`` lays it out: Llama's names and shapes."""

    name = "mistral"

    def config(self, data: Mapping[str, Any]) -> MistralConfig:
        return MistralConfig.model_validate(data)


MISTRAL = Mistral()
