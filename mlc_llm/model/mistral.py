"""Mistral: Llama with attention in a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlc_llm.model.llama import Llama, LlamaConfig
from mlc_llm.plugin import ModelConfig


class MistralConfig(LlamaConfig):
    """Mistral's hyper-parameters; ``sliding_window_size`` is -1 where a version has no window."""

    default_positions: ClassVar[int] = 4096 * 32


class Mistral(Llama):
    """Mistral as Hugging Face's ``MistralForCausalLM`` lays it out: Llama's names and shapes."""

    name = "mistral"
    config_type = MistralConfig

    def config(self, data: Mapping[str, Any]) -> ModelConfig:
        # As in transformers, a file that says null has no window, and 4096 where it says nothing.
        window = data.get("sliding_window", 4096) or -1
        return super().config({"sliding_window_size": window, **data})


MISTRAL = Mistral()
