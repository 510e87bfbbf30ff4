"""The model that is converted: a checkpoint, and the architecture that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlc_llm.errors import ConversionError
from mlc_llm.plugin import Architecture, ModelConfig, Source, SourceTensor
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.sources import open_source
from mlc_llm.sources.config import parse_config
from mlc_llm.sources.folder import CONFIG_FILE
from mlc_llm.weights.paths import is_folder, shown_name


@dataclass(frozen=True)
class SourceModel:
    """A model that can be converted.

    Args:
        source: its checkpoint.
        architecture: the architecture that ``model_type`` names, of the model or of its text part.
        config: the configuration as the architecture reads it.
    """

    source: Source
    architecture: Architecture
    config: ModelConfig

    @classmethod
    def open(
        cls, source: str | Path, *, progress: bool = False, registry: Registry | None = None
    ) -> SourceModel:
        """Find a model and read its configuration, not yet its weights.

        Args:
            source: a file such as ``model.gguf``, a folder, or ``HF://org/name``.
            progress: whether to show a download's progress on stderr, when that is a terminal.
            registry: where formats and architectures are looked up; by default among the installed
                plugins.

        Raises:
            ModelNotFoundError: there is no such file or folder.
            HubError: it could not be fetched.
            ConversionError: it is of no format that is read, is damaged, or its configuration does
                not fit the architecture.
            PluginError: no architecture has the name that ``model_type`` gives.
        """
        registry = registry or default_registry()
        opened = open_source(source, progress=progress, registry=registry)
        architecture = registry.architecture(_architecture_name(opened.config, registry))
        path = opened.path
        file = path / CONFIG_FILE if is_folder(path, ConversionError) else path
        return cls(opened, architecture, parse_config(architecture, opened.config, file))

    def checkpoint(self) -> dict[str, SourceTensor]:
        """The tensors of the checkpoint by the weight map's names, without their values.

        Raises:
            ConversionError: a file is missing or malformed, or two tensors have one name in the
                weight map.
        """
        return self._renamed(self.source.tensors())

    def _renamed(self, tensors: Mapping[str, SourceTensor]) -> dict[str, SourceTensor]:
        renamed: dict[str, SourceTensor] = {}
        for name, tensor in tensors.items():
            known = self.architecture.rename(name)
            if known in renamed:
                raise ConversionError(
                    f"{self.source.path} has {shown_name(known)} twice: as "
                    f"{shown_name(renamed[known].name)} and as {shown_name(name)}.",
                    code="checkpoint-damaged",
                )
            renamed[known] = tensor
        return renamed


def _architecture_name(config: Mapping[str, Any], registry: Registry) -> str:
    """The ``model_type``, or that of the text part where only this one is an architecture's."""
    name: str = config["model_type"]
    text = config.get("text_config")
    inner = text.get("model_type") if isinstance(text, Mapping) else None
    known = registry.names("architecture")
    return inner if isinstance(inner, str) and name not in known and inner in known else name
