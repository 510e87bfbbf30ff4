"""Mistral: Llama with attention in a sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from mlc_llm.model.llama import Llama, LlamaConfig
from mlc_llm.model.text_part import is_of_vision, text_config, text_name
from mlc_llm.plugin import ModelConfig


class MistralConfig(LlamaConfig):
    """Mistral's hyper-parameters; ``sliding_window_size`` is -1 where a version has no window."""

    default_positions: ClassVar[int] = 4096 * 32


class Mistral(Llama):
    """Mistral as Hugging Face's ``MistralForCausalLM`` lays it out: Llama's names and shapes.

    It is also the text part of ``Mistral3ForConditionalGeneration``.

    Attributes:
        window: the sliding window of a file that says nothing of it, as in transformers; a null
            means that there is none.
    """

    name = "mistral"
    config_type: type[ModelConfig] = MistralConfig
    window: ClassVar[int | None] = 4096

    def config(self, data: Mapping[str, Any]) -> ModelConfig:
        data = text_config(data)
        window = data.get("sliding_window", self.window) or -1
        return super().config({"sliding_window_size": window, **data})

    def rename(self, name: str) -> str:
        return text_name(name)

    def ignores(self, name: str) -> bool:
        return is_of_vision(name) or super().ignores(name)


MISTRAL = Mistral()
