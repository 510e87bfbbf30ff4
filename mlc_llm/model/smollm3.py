"""SmolLM 3: Llama in which every fourth layer attends without rotary positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import model_validator

from mlc_llm.model.gguf import DECODER_TENSORS, LLAMA_FAMILY
from mlc_llm.model.layer_windows import LayerWindowsConfig
from mlc_llm.model.llama import Llama
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.architecture import MOST_LAYERS
from mlc_llm.plugin.gguf import GGUFFamily


class SmolLM3Config(LayerWindowsConfig):
    """The hyper-parameters, with the defaults of transformers' ``SmolLM3Config``.

    A file's ``sliding_window`` counts where ``use_sliding_window`` is true, and then for the layers
    without rotary positions.

    Args:
        no_rope_layers: whether a layer has rotary positions, in spite of its name; there may be
            more entries than layers. Where a file has none, layers whose number, counted from
            1, is a multiple of the file's ``no_rope_layer_interval`` go without them.
    """

    position_embedding_base: float = 2_000_000.0
    tie_word_embeddings: bool = True
    no_rope_layers: tuple[bool, ...] = ()

    default_positions: ClassVar[int] = 32768

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        interval = data.get("no_rope_layer_interval", 4)
        data.setdefault("no_rope_layers", _by_interval(data.get("num_hidden_layers"), interval))
        if not data.get("use_sliding_window", "layer_types" in data):
            data.pop("sliding_window", None)
        return super().fill(data)

    @classmethod
    def slides(cls, index: int, data: dict[str, Any]) -> bool:
        rotary = data.get("no_rope_layers")
        turns = not isinstance(rotary, list) or index >= len(rotary) or rotary[index]
        return super().slides(index, data) and not turns

    @model_validator(mode="after")
    def _check_no_rope_layers(self) -> SmolLM3Config:
        if len(self.no_rope_layers) < self.num_hidden_layers:
            raise ValueError(
                f"no_rope_layers has {len(self.no_rope_layers)} entries, and there are "
                f"{self.num_hidden_layers} layers"
            )
        return self


def _by_interval(count: Any, interval: Any) -> list[bool]:
    """Whether each layer has rotary positions; of none where that cannot be said."""
    known = all(isinstance(one, int) and 0 < one <= MOST_LAYERS for one in (count, interval))
    if not known:
        return []
    return [(index + 1) % interval != 0 for index in range(count)]


class SmolLM3(Llama):
    """SmolLM 3 as Hugging Face's ``SmolLM3ForCausalLM`` lays it out: Llama's names and shapes."""

    name = "smollm3"
    config_type = SmolLM3Config
    # llama.cpp orders this family's queries and keys as Llama's, also where nothing turns.
    gguf = GGUFFamily("smollm3", DECODER_TENSORS, orders=LLAMA_FAMILY.orders)

    def attention(self, config: Any) -> list[AttentionSpec]:
        layers = config.windowed(super().attention(config))
        return [
            layer if rotary else replace(layer, rope=None)
            for layer, rotary in zip(layers, config.no_rope_layers, strict=False)
        ]


SMOLLM3 = SmolLM3()
