"""Reading a safetensors file tensor by tensor and row by row, without torch.

The format: the header's length as a little-endian uint64; the header, a JSON object of
``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``; then the tensors' bytes, row-major and
little-endian, at these offsets. See https://huggingface.co/docs/safetensors.

The library ``safetensors`` checks the header, so that what it refuses is refused here. It does not
read bfloat16 without torch, which is what most checkpoints are in: the values are read here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.weights.shards import widen_bfloat16

LONGEST_HEADER = 16 << 20
"""Bytes, of some 100,000 tensors. The format's own limit is 100 MB, which would take some 2 GB of
memory to read; the longest header of a published file has about 1 MB."""

_LONGEST_REASON = 500
"""Characters that are shown of what the library says, which may quote the whole header."""

_BFLOAT16 = "BF16"
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", _BFLOAT16: "<u2"}


@dataclass(frozen=True)
class CheckpointTensor:
    """One tensor of a checkpoint.

    Args:
        name: its name.
        shape: its shape.
        dtype: its dtype, as safetensors names it (``BF16``, ``F32``, ...).
        file: the file it is in.
        begin: where its bytes begin in that file.
        end: where they end.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    begin: int
    end: int

    def require_float(self) -> None:
        """Raise ConversionError unless the dtype is a floating dtype of 16 bits or more."""
        if self.dtype not in _FLOATS:
            raise ConversionError(
                f"{self.name} in {self.file} has the dtype {self.dtype}; only "
                f"{', '.join(sorted(_FLOATS))} can be converted.",
                code="dtype-unsupported",
            )

    def read(self, rows: slice | EllipsisType = ...) -> npt.NDArray[np.float32]:
        """Return some of the tensor's rows (slices along its first axis), or all, as float32.

        Raises:
            ConversionError: the dtype is not a floating dtype of 16 bits or more, or the file has
                changed since it was opened.
        """
        self.require_float()
        dtype = np.dtype(_FLOATS[self.dtype])
        try:
            stored = self._stored(dtype, rows)
        except (OSError, ValueError) as error:
            raise ConversionError(
                f"{self.name} cannot be read from {self.file}: {error}.", code="checkpoint-damaged"
            ) from None
        if self.dtype == _BFLOAT16:
            return widen_bfloat16(stored)
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which is refused
            return stored.astype(np.float32, copy=False)

    def _stored(self, dtype: np.dtype[Any], rows: slice | EllipsisType) -> npt.NDArray[Any]:
        """Some rows as they are stored. They are read and not mapped: a file that is cut short
        while it is mapped would end the process."""
        shape, begin = self.shape, self.begin
        if isinstance(rows, slice):
            first, last, _ = rows.indices(shape[0])
            shape = (max(0, last - first), *shape[1:])
            begin += first * math.prod(shape[1:]) * dtype.itemsize
        count = math.prod(shape)
        values = np.fromfile(self.file, dtype, count, offset=begin) if count else np.empty(0, dtype)
        if len(values) < count:
            raise ValueError("the file was cut short")
        return values.reshape(shape)


def read_header(path: Path) -> dict[str, CheckpointTensor]:
    """Return the tensors of a safetensors file by name, without reading their values.

    Raises:
        ConversionError: the file is missing, a Git-LFS pointer, truncated or malformed.
    """
    from safetensors import SafetensorError, safe_open

    try:
        refuse_lfs_pointer(path, ConversionError)
        text, size = _header_text(path)
        with safe_open(str(path), framework="numpy"):  # it checks the header
            pass
    except OSError as error:
        raise ConversionError(
            f"{path} cannot be read: {error.strerror or error}.", code="file-unreadable"
        ) from None
    except SafetensorError as error:
        raise _refused(path, text, size, error) from None
    data = 8 + len(text)
    entries = json.loads(text)
    entries.pop("__metadata__", None)
    return {name: _tensor(name, entry, path, data) for name, entry in entries.items()}


def _header_text(path: Path) -> tuple[bytes, int]:
    """A file's header, and the size of the file."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _malformed(path, f"its header of {length} bytes does not fit into {size}")
        if length > LONGEST_HEADER:
            raise _malformed(path, f"its header of {length} bytes has more than {LONGEST_HEADER}")
        return file.read(length), size


def _tensor(name: str, entry: Mapping[str, Any], path: Path, data: int) -> CheckpointTensor:
    """An entry of a header that was checked, in a file whose tensors begin at ``data``."""
    begin, end = entry["data_offsets"]
    return CheckpointTensor(
        name, tuple(entry["shape"]), entry["dtype"], path, data + begin, data + end
    )


def _refused(path: Path, text: bytes, size: int, error: Exception) -> ConversionError:
    """What is wrong with a file that the library refuses."""
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        needed = 8 + len(text) + max(entry["data_offsets"][1] for entry in entries.values())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        needed = 0
    if needed > size:
        return ConversionError(
            f"{path} is cut short: its tensors end at byte {needed} and the file at {size}. Fetch "
            "it again.",
            code="checkpoint-damaged",
        )
    said = str(error).removeprefix("Error while deserializing header: ")
    return _malformed(path, said[:_LONGEST_REASON])


def _malformed(path: Path, what: str) -> ConversionError:
    return ConversionError(
        f"{path} is not a valid safetensors file: {what}.", code="checkpoint-damaged"
    )
