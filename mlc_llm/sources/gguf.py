"""GGUF files: llama.cpp's format, in which most models are passed on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError, PluginError, TokenizerError, unknown
from mlc_llm.plugin import Architecture, Source, SourceFormat, SourceTensor
from mlc_llm.plugin.source import Architectures
from mlc_llm.sources import gguf_config
from mlc_llm.sources.config import parse_config
from mlc_llm.sources.folder import CHAT_TEMPLATE_FILE
from mlc_llm.sources.gguf_file import is_gguf
from mlc_llm.sources.gguf_parts import GGUFModel, find_model, read_model
from mlc_llm.sources.gguf_rope import TENSORS as ROPE_TENSORS
from mlc_llm.sources.gguf_tensor import GGUFTensor
from mlc_llm.weights.paths import is_folder, shown_name

ARCHITECTURE_KEY = "general.architecture"
TEMPLATE_KEY = "tokenizer.chat_template"

_NUMBER = re.compile(r"blk\.(\d+)\.")
_MOST_PAIRS = 1 << 16


class GGUFFormat(SourceFormat):
    """GGUF files, in one piece or split, and folders that hold one model of them."""

    name = "gguf"
    order = 30
    description = "a GGUF file"

    def recognizes(self, path: Path) -> bool:
        if is_folder(path, ConversionError):
            return find_model(path) is not None
        return path.suffix.lower() == ".gguf" or is_gguf(path)

    def open(self, path: Path, architectures: Architectures) -> Source:
        found = find_model(path) if is_folder(path, ConversionError) else path
        assert found is not None
        model = read_model(found)
        return GGUFSource(model, _architecture(model, architectures))


class GGUFSource(Source):
    """A model in a GGUF file.

    Args:
        model: the file, or the files of a split one.
        architecture: what it is of, with a ``gguf``.

    Raises:
        ConversionError: its metadata is not a configuration of the architecture.
    """

    keeps_types = True

    def __init__(self, model: GGUFModel, architecture: Architecture) -> None:
        assert architecture.gguf is not None
        self.path = model.path
        self._model, self._family = model, architecture.gguf
        name = architecture.name
        self.config = gguf_config.config(model, self._family, name, self._rope_tensors())
        self.generation_config = gguf_config.generation_config(model)
        template = model.metadata.get(TEMPLATE_KEY)
        self.chat_template = template if isinstance(template, str) else None
        self._config = parse_config(architecture, self.config, model.path)

    def tensors(self) -> Mapping[str, SourceTensor]:
        tensors: dict[str, SourceTensor] = {}
        for name, (file, entry) in self._model.tensors.items():
            stem = _stem(name)
            if name in ROPE_TENSORS or stem in self._family.ignored:
                continue
            order, make = self._family.orders.get(stem), self._family.values.get(stem)
            rows = order and order(self._config)
            tensor = GGUFTensor(self._known(name, file), file, entry, rows, make)
            tensor.require_readable()
            tensors[tensor.name] = tensor
        return tensors

    def tokenizer_files(self) -> Mapping[str, bytes]:
        from mlc_llm.sources.gguf_tokenizer import tokenizer_files

        try:
            files = dict(tokenizer_files(self._model.metadata))
        except TokenizerError as error:
            raise TokenizerError(f"{self.path}: {error}", code=error.code) from error
        if self.chat_template is not None:
            files[CHAT_TEMPLATE_FILE] = self.chat_template.encode(errors="replace")
        return files

    def _known(self, name: str, file: Path) -> str:
        """The name in the checkpoint of a tensor of the file's."""
        pattern = self._family.tensors.get(_stem(name))
        if pattern is None:
            raise ConversionError(
                f"{file} has {shown_name(name)}, which files of {self._family.architecture!r} do "
                "not have as far as is known. The model is probably of a variant that is not read.",
                code="tensor-unknown",
            )
        number = _NUMBER.match(name)
        ending = name[name.rindex(".") :]
        return (pattern.replace("*", number[1]) if number else pattern) + ending

    def _rope_tensors(self) -> dict[str, npt.NDArray[np.float32]]:
        found = {}
        for name in ROPE_TENSORS:
            if name in self._model.tensors:
                file, entry = self._model.tensors[name]
                if len(entry.shape) != 1 or entry.shape[0] > _MOST_PAIRS:
                    raise ConversionError(
                        f"{name} in {file} has the shape {entry.shape}, not one number for each "
                        "pair of a head.",
                        code="shape-mismatch",
                    )
                tensor = GGUFTensor(name, file, entry)
                tensor.require_readable()
                found[name] = tensor.read()
        return found


def _stem(name: str) -> str:
    """A tensor's name without its ending, and with ``*`` for the number of its layer."""
    stem = name.removesuffix(".weight")
    stem = stem.removesuffix(".bias") if stem == name else stem
    return _NUMBER.sub("blk.*.", stem) if stem != name else ""


def _architecture(model: GGUFModel, architectures: Architectures) -> Architecture:
    """The architecture of a model; one of the file's own name for it goes before others."""
    wanted = model.metadata.get(ARCHITECTURE_KEY)
    if not isinstance(wanted, str):
        raise ConversionError(
            f"{model.path} does not say its architecture ({ARCHITECTURE_KEY}).",
            code="source-config-invalid",
        )
    read = []
    for name in sorted(architectures.names("architecture"), key=lambda name: name != wanted):
        try:
            architecture = architectures.architecture(name)
        except PluginError:
            if name == wanted:
                raise
            continue  # whoever asks for it by name is told
        if architecture.gguf is not None:
            if architecture.gguf.architecture == wanted:
                return architecture
            read.append(architecture.gguf.architecture)
    raise ConversionError(
        f"{model.path}: {unknown('architecture of GGUF files', wanted, set(read))}",
        code="architecture-unknown",
    )
