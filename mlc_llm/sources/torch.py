"""Folders in Hugging Face's layout with ``pytorch_model.bin``, with or without an index.

These files are pickles, which may hold code. They are read by torch's loader for weights only,
which makes nothing but tensors, and only where torch is installed. They are mapped, and what is
read is copied. A mapped file that another program cuts short would end the process, so that its
size and its time are looked at before each read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.plugin import Scheme, Source, SourceTensor
from mlc_llm.plugin.source import Architectures, Rows
from mlc_llm.sources.folder import CONFIG_FILE, FolderFormat, FolderSource
from mlc_llm.sources.index import read_index
from mlc_llm.weights.paths import is_file, shown_name

SINGLE_FILE = "pytorch_model.bin"
INDEX_FILE = "pytorch_model.bin.index.json"

_KEPT = {
    "float16": Scheme(16, "float16"),
    "bfloat16": Scheme(16, "float16"),
    "float32": Scheme(32, "float32"),
}
_Stamp = tuple[int, int]
"""Size and time of a file, by which it is known whether it changed."""

_FLOATS = ("bfloat16", "float16", "float32", "float64")


class TorchFormat(FolderFormat):
    """Folders with ``config.json`` and ``pytorch_model.bin`` or its index."""

    name = "torch"
    order = 20
    description = f"a folder with {CONFIG_FILE} and {SINGLE_FILE} or {INDEX_FILE}, through torch"

    single_file, index_file = SINGLE_FILE, INDEX_FILE

    def open(self, path: Path, architectures: Architectures) -> Source:
        return TorchSource(path)


class TorchSource(FolderSource):
    """A checkpoint in files of torch's."""

    def tensors(self) -> Mapping[str, SourceTensor]:
        return self._tensors

    @cached_property
    def _tensors(self) -> Mapping[str, SourceTensor]:
        single, index = self.path / SINGLE_FILE, self.path / INDEX_FILE
        if is_file(single, ConversionError):
            return _load(single)
        return read_index(index, _load)


@dataclass(frozen=True)
class TorchTensor(SourceTensor):
    """A tensor of torch's in the memory that a file is mapped to."""

    name: str
    file: Path
    value: Any
    stamp: _Stamp | None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.value.shape)

    @property
    def dtype(self) -> str:  # type: ignore[override]
        return str(self.value.dtype).removeprefix("torch.")

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        return int(self.value.numel() * self.value.element_size())

    @property
    def scheme(self) -> Scheme | None:
        return _KEPT.get(self.dtype)

    def require_readable(self) -> None:
        if self.dtype not in _FLOATS:
            raise ConversionError(
                f"{shown_name(self.name)} in {self.file} has the dtype {self.dtype}; only "
                f"{', '.join(_FLOATS)} can be converted.",
                code="dtype-unsupported",
            )

    def read(self, rows: Rows = ...) -> npt.NDArray[np.float32]:
        self.require_readable()
        if _stamp(self.file) != self.stamp:
            raise ConversionError(
                f"{shown_name(self.name)} cannot be read from {self.file}: the file has changed "
                "since it was opened.",
                code="checkpoint-damaged",
            )
        values: npt.NDArray[np.float32] = self.value[rows].float().numpy()
        # What is float32 already is a view of the mapped file.
        return values.copy() if self.dtype == "float32" else values


def _load(path: Path) -> dict[str, SourceTensor]:
    """The tensors of one file by their names."""
    refuse_lfs_pointer(path, ConversionError)
    torch = _require_torch(path)
    stamp = _stamp(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of any kind, as whatever a damaged pickle has is looked up
        raise ConversionError(
            f"{path} cannot be read by torch's loader for weights only: {_first_line(error)}. "
            "Take the model in safetensors, or save it again with save_pretrained.",
            code="checkpoint-damaged",
        ) from None
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and _holds_values(value)
        for name, value in loaded.items()
    ):
        raise ConversionError(
            f"{path} is not a table of tensors by their names.", code="checkpoint-damaged"
        )
    tensors = [TorchTensor(name, path, one.detach(), stamp) for name, one in loaded.items()]
    for tensor in tensors:
        _require_in_file(tensor)
    return {tensor.name: tensor for tensor in tensors}


def _holds_values(value: Any) -> bool:
    """Whether a tensor has a value for each index, and not a description of them."""
    return value.device.type == "cpu" and str(value.layout) == "torch.strided"


def _require_in_file(tensor: TorchTensor) -> None:
    """Refuse a tensor whose rows lie in the same bytes, so that it is larger than its file.

    Raises:
        ConversionError: it is.
    """
    size = tensor.stamp[0] if tensor.stamp else 0
    if tensor.nbytes > size:
        raise ConversionError(
            f"{shown_name(tensor.name)} in {tensor.file} has {tensor.nbytes} bytes by its shape "
            f"{tensor.shape}, and the file {size}.",
            code="checkpoint-damaged",
        )


def _stamp(path: Path) -> _Stamp | None:
    """What a file is known by; None where there is none any more."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_size, info.st_mtime_ns


def _require_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise ConversionError(
            f"{path} is read through torch, which is not installed. Install it (pip install "
            "torch), or take the model in safetensors.",
            code="torch-missing",
        ) from None
    return torch


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return ": ".join([type(error).__name__, *(line.rstrip(".") for line in lines[:1])])
