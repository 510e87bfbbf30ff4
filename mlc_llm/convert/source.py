"""The model that is converted: a folder in Hugging Face's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pydantic import ValidationError

from mlc_llm.config import CHAT_CONFIG_FILE, explain
from mlc_llm.convert.foreign import refuse_quantized, what_it_has_instead
from mlc_llm.convert.links import refuse_links_out
from mlc_llm.convert.safetensors_file import CheckpointTensor, read_header
from mlc_llm.errors import ConversionError
from mlc_llm.files import read_json_object
from mlc_llm.plugin import Architecture, ModelConfig
from mlc_llm.registry.registry import Registry, default_registry
from mlc_llm.weights.locate import resolve_model
from mlc_llm.weights.paths import is_file, listed, shown_name

CONFIG_FILE = "config.json"
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class SourceModel:
    """A model in Hugging Face's layout.

    Args:
        folder: its folder.
        data: its ``config.json``.
        architecture: the architecture that ``model_type`` names.
        config: the configuration as the architecture reads it.
    """

    folder: Path
    data: dict[str, Any]
    architecture: Architecture
    config: ModelConfig

    @classmethod
    def open(
        cls, source: str | Path, *, progress: bool = False, registry: Registry | None = None
    ) -> SourceModel:
        """Find a model and read its configuration, not yet its weights.

        Args:
            source: a folder, or ``HF://org/name``.
            progress: whether to show a download's progress on stderr, when that is a terminal.
            registry: where its architecture is looked up; by default among the installed plugins.

        Raises:
            ModelNotFoundError: there is no such folder.
            HubError: it could not be fetched.
            ConversionError: ``config.json`` is missing, malformed or does not fit the architecture.
            PluginError: no architecture has the name that ``model_type`` gives.
        """
        folder = resolve_model(source, progress=progress)
        refuse_links_out(folder)
        data = _read_config(folder)
        architecture = (registry or default_registry()).architecture(data["model_type"])
        return cls(folder, data, architecture, parse_config(architecture, data, folder))

    def checkpoint(self) -> dict[str, CheckpointTensor]:
        """The tensors of the checkpoint by the weight map's names, without their values.

        Raises:
            ConversionError: there are no safetensors files, one is missing or malformed, or two
                tensors have one name in the weight map.
        """
        single, index = self.folder / SINGLE_FILE, self.folder / INDEX_FILE
        if is_file(single, ConversionError):
            return self._renamed(read_header(single))
        if is_file(index, ConversionError):
            return self._renamed(_read_index(index))
        raise ConversionError(
            f"{self.folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}."
            f"{what_it_has_instead(self.folder)}",
            code="safetensors-missing",
        )

    def _renamed(self, tensors: dict[str, CheckpointTensor]) -> dict[str, CheckpointTensor]:
        renamed: dict[str, CheckpointTensor] = {}
        for name, tensor in tensors.items():
            known = self.architecture.rename(name)
            if known in renamed:
                raise ConversionError(
                    f"{self.folder} has {shown_name(known)} twice: as "
                    f"{shown_name(renamed[known].name)} and as {shown_name(name)}.",
                    code="checkpoint-damaged",
                )
            renamed[known] = tensor
        return renamed


def parse_config(architecture: Architecture, data: dict[str, Any], folder: Path) -> ModelConfig:
    """Let an architecture read a configuration; raises ConversionError when it cannot."""
    try:
        return architecture.config(data)
    except ValidationError as error:
        reason = explain(error, "", architecture.config_type.model_fields)
    except ValueError as error:
        reason = str(error)
    except Exception as error:  # a plugin that does not expect such a value
        reason = f"{type(error).__name__}: {error}"
    raise ConversionError(
        f"{folder / CONFIG_FILE} is not a configuration of the architecture "
        f"{architecture.name!r}: {reason}",
        code="source-config-invalid",
    )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not is_file(path, ConversionError):
        what = (
            f"it is a model folder in MLC's format already ({CHAT_CONFIG_FILE})"
            if (folder / CHAT_CONFIG_FILE).is_file()
            else f"a model in Hugging Face's layout has a {CONFIG_FILE}"
        )
        raise ConversionError(
            f"{folder} has no {CONFIG_FILE}: {what}.{what_it_has_instead(folder)}",
            code="source-config-missing",
        )
    data = read_json_object(path, ConversionError)
    if not isinstance(data.get("model_type"), str):
        raise ConversionError(
            f"{path} does not say the model_type, such as 'llama'.", code="source-config-invalid"
        )
    refuse_quantized(data, folder)
    return data


def _read_index(index: Path) -> dict[str, CheckpointTensor]:
    weight_map = read_json_object(index, ConversionError).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and PurePath(file).name == file for file in weight_map.values()
    ):
        raise ConversionError(
            f"{index} has no weight_map from tensors to files beside it.", code="checkpoint-damaged"
        )
    files = sorted(set(weight_map.values()))
    missing = [file for file in files if not is_file(index.parent / file, ConversionError)]
    if missing:
        raise ConversionError(
            f"{index.parent} lacks {listed(missing)}, which {INDEX_FILE} names. Fetch the "
            "checkpoint again.",
            code="checkpoint-incomplete",
        )
    headers = {file: read_header(index.parent / file) for file in files}
    tensors = {}
    for name, file in weight_map.items():
        if name not in headers[file]:
            raise ConversionError(
                f"{index} says that {shown_name(name)} is in {file}, and it is not.",
                code="checkpoint-incomplete",
            )
        tensors[name] = headers[file][name]
    return tensors
