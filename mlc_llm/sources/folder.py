"""A folder in Hugging Face's layout: what stands beside the weights, whatever their format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlc_llm.errors import ConversionError
from mlc_llm.files import read_file, read_json_object
from mlc_llm.plugin import Source
from mlc_llm.sources.foreign import refuse_quantized
from mlc_llm.sources.tokenizer_files import find_tokenizer_files
from mlc_llm.weights.paths import is_file

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"


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
        """``chat_template.jinja``, or else the default one in ``tokenizer_config.json``."""
        path = self.path / CHAT_TEMPLATE_FILE
        if is_file(path, ConversionError):
            return _text(path)
        settings = self.path / TOKENIZER_CONFIG_FILE
        if not is_file(settings, ConversionError):
            return None
        return _default_template(read_json_object(settings, ConversionError).get("chat_template"))

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


def _text(path: Path) -> str:
    try:
        return read_file(path, ConversionError).decode()
    except UnicodeError:
        raise ConversionError(f"{path} is not UTF-8 text.", code="source-config-invalid") from None


def _default_template(value: Any) -> str | None:
    """The template that counts of one text, or of a list of templates with names."""
    if isinstance(value, list):
        named = {one.get("name"): one.get("template") for one in value if isinstance(one, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None
