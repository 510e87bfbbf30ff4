"""A folder in Hugging Face's layout: what stands beside the weights, whatever their format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mlc_llm.errors import ConversionError
from mlc_llm.files import read_json_object
from mlc_llm.plugin import Source, SourceFormat
from mlc_llm.sources.foreign import refuse_quantized
from mlc_llm.sources.tokenizer_files import find_tokenizer_files
from mlc_llm.tokenizer.chat_template import read_jinja_template
from mlc_llm.weights.paths import is_file

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"


class FolderFormat(SourceFormat):
    """Folders with ``config.json`` and weights in one file, or in several that an index lists."""

    single_file: ClassVar[str]
    index_file: ClassVar[str]

    def recognizes(self, path: Path) -> bool:
        return is_file(path / CONFIG_FILE, ConversionError) and any(
            is_file(path / name, ConversionError) for name in (self.single_file, self.index_file)
        )


class FolderSource(Source):
    """A checkpoint in a folder with a ``config.json``; a format adds the tensors.

    Args:
        folder: the folder.

    Raises:
        ConversionError: ``config.json`` is malformed, or says that the weights are quantised.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self.config = _config(folder)

    @property
    def generation_config(self) -> Mapping[str, Any]:  # type: ignore[override]
        """What ``generation_config.json`` says; empty where there is none."""
        path = self.path / GENERATION_FILE
        if not is_file(path, ConversionError):
            return {}
        return read_json_object(path, ConversionError)

    @property
    def chat_template(self) -> str | None:  # type: ignore[override]
        """The text of the template that the folder has; None where it has none."""
        template = read_jinja_template(self.path)
        return None if template is None else template.source

    def tokenizer_files(self) -> Mapping[str, bytes]:
        names = find_tokenizer_files(self.path)
        return {name: (self.path / name).read_bytes() for name in names}


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    data = read_json_object(path, ConversionError)
    if not isinstance(data.get("model_type"), str):
        raise ConversionError(
            f"{path} does not say the model_type, such as 'llama'.", code="source-config-invalid"
        )
    refuse_quantized(data, folder)
    return data
