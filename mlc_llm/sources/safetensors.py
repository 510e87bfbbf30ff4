"""Folders in Hugging Face's layout with safetensors files, with or without an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlc_llm.errors import ConversionError
from mlc_llm.plugin import Source, SourceTensor
from mlc_llm.plugin.source import Architectures
from mlc_llm.sources.folder import CONFIG_FILE, FolderFormat, FolderSource
from mlc_llm.sources.index import read_index
from mlc_llm.sources.safetensors_file import read_header
from mlc_llm.weights.paths import is_file

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class SafetensorsFormat(FolderFormat):
    """Folders with ``config.json`` and ``model.safetensors`` or its index."""

    name = "safetensors"
    order = 10
    description = f"a folder with {CONFIG_FILE} and {SINGLE_FILE} or {INDEX_FILE}"

    single_file, index_file = SINGLE_FILE, INDEX_FILE

    def open(self, path: Path, architectures: Architectures) -> Source:
        return SafetensorsSource(path)


class SafetensorsSource(FolderSource):
    """A checkpoint in safetensors files."""

    def tensors(self) -> Mapping[str, SourceTensor]:
        single, index = self.path / SINGLE_FILE, self.path / INDEX_FILE
        if is_file(single, ConversionError):
            return read_header(single)
        return read_index(index, read_header)
