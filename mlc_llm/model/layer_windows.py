"""The config of families in which some layers attend in a window, and the others to everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import model_validator

from mlc_llm.model.llama import LlamaConfig
from mlc_llm.plugin import AttentionSpec
from mlc_llm.plugin.architecture import MOST_LAYERS, Size

LayerType = Literal["full_attention", "sliding_attention"]


class LayerWindowsConfig(LlamaConfig):
    """Llama's hyper-parameters, and which layers slide, under Hugging Face's names.

    Args:
        sliding_window: positions that the queries of a sliding layer see; None where none slides.
        layer_types: what each layer is; where a file has none, :meth:`slides` says it.
    """

    sliding_window: Size | None = None
    layer_types: tuple[LayerType, ...] = ()

    @classmethod
    def slides(cls, index: int, data: dict[str, Any]) -> bool:
        """Whether a layer slides by a file that does not list the types of layers.

        Args:
            index: the layer's.
            data: what the file says.
        """
        return "sliding_window" in data

    @classmethod
    def fill(cls, data: dict[str, Any]) -> dict[str, Any]:
        data = super().fill(data)
        count = data.get("num_hidden_layers")
        if "layer_types" not in data and isinstance(count, int) and 0 < count <= MOST_LAYERS:
            names: tuple[LayerType, LayerType] = ("full_attention", "sliding_attention")
            data["layer_types"] = [names[cls.slides(index, data)] for index in range(count)]
        return data

    @model_validator(mode="after")
    def _check_layer_types(self) -> LayerWindowsConfig:
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types has {len(self.layer_types)} entries, and there are "
                f"{self.num_hidden_layers} layers"
            )
        if "sliding_attention" in self.layer_types and self.sliding_window is None:
            raise ValueError("layer_types has sliding_attention, and sliding_window is missing")
        return self

    def windowed(self, layers: Sequence[AttentionSpec]) -> list[AttentionSpec]:
        """Descriptions of layers, with a window for each layer that slides."""
        return [
            narrowed(layer, self.sliding_window if kind == "sliding_attention" else None)
            for layer, kind in zip(layers, self.layer_types, strict=True)
        ]


def narrowed(layer: AttentionSpec, window: int | None) -> AttentionSpec:
    """A layer with a window, unless it has a narrower one, as of ``sliding_window_size``."""
    windows = [one for one in (layer.window, window) if one]
    return replace(layer, window=min(windows, default=None))
