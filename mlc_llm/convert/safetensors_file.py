"""Reading a safetensors file tensor by tensor and row by row, without torch.

The format: the header's length as a little-endian uint64; the header, a JSON object of
``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``; then the tensors' bytes, row-major and
little-endian, at these offsets. See https://huggingface.co/docs/safetensors.

The library ``safetensors`` reads the format too, but not bfloat16 without torch, which is what most
checkpoints are in.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, StrictInt, ValidationError

from mlc_llm.errors import ConversionError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.weights.shards import widen_bfloat16

LONGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""

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

    def read(self, rows: slice | EllipsisType = ...) -> npt.NDArray[np.float32]:
        """Return some of the tensor's rows (slices along its first axis), or all, as float32.

        Raises:
            ConversionError: the dtype is not a floating dtype of 16 bits or more, or the file has
                changed since it was opened.
        """
        if self.dtype not in _FLOATS:
            raise ConversionError(
                f"{self.name} in {self.file} has the dtype {self.dtype}; only "
                f"{', '.join(sorted(_FLOATS))} can be converted.",
                code="dtype-unsupported",
            )
        dtype = np.dtype(_FLOATS[self.dtype])
        if not self.begin < self.end:
            return np.zeros(self.shape, np.float32)[rows]
        try:
            stored = np.memmap(self.file, dtype, "r", self.begin, self.shape)[rows]
        except (OSError, ValueError) as error:
            raise ConversionError(
                f"{self.name} cannot be read from {self.file}: {error}.", code="checkpoint-damaged"
            ) from None
        if self.dtype == _BFLOAT16:
            return widen_bfloat16(np.asarray(stored))
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which is refused
            return np.asarray(stored).astype(np.float32)


class _Entry(BaseModel):
    dtype: str
    shape: list[Annotated[StrictInt, Field(ge=0)]]
    data_offsets: tuple[StrictInt, StrictInt]


def read_header(path: Path) -> dict[str, CheckpointTensor]:
    """Return the tensors of a safetensors file by name, without reading their values.

    Raises:
        ConversionError: the file is missing, a Git-LFS pointer, truncated or malformed.
    """
    try:
        refuse_lfs_pointer(path, ConversionError)
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, LONGEST_HEADER):
                raise _malformed(path, f"its header of {length} bytes does not fit into {size}")
            text = file.read(length)
    except OSError as error:
        raise ConversionError(
            f"{path} cannot be read: {error.strerror or error}.", code="file-unreadable"
        ) from None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed(path, "its header is not valid JSON") from None
    if not isinstance(header, dict):
        raise _malformed(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    data = 8 + length
    return {name: _tensor(name, entry, path, data, size) for name, entry in header.items()}


def _tensor(name: str, entry: Any, path: Path, data: int, size: int) -> CheckpointTensor:
    """Check an entry of the header of a file of ``size`` bytes, whose tensors begin at ``data``."""
    try:
        checked = _Entry.model_validate(entry)
    except ValidationError as error:
        item = error.errors()[0]
        where = ".".join(map(str, item["loc"]))
        raise _malformed(path, f"{where} of the tensor {name}: {item['msg']}") from None
    begin, end = checked.data_offsets
    if not 0 <= begin <= end:
        raise _malformed(path, f"the tensor {name} has the offsets {begin} and {end}")
    if data + end > size:
        raise ConversionError(
            f"{path} is cut short: the tensor {name} ends at byte {data + end} and the file at "
            f"{size}. Fetch it again.",
            code="checkpoint-damaged",
        )
    if checked.dtype in _FLOATS:
        needed = math.prod(checked.shape) * np.dtype(_FLOATS[checked.dtype]).itemsize
        if needed != end - begin:
            raise _malformed(path, f"the tensor {name} has {end - begin} bytes, not {needed}")
    shape = tuple(checked.shape)
    return CheckpointTensor(name, shape, checked.dtype, path, data + begin, data + end)


def _malformed(path: Path, what: str) -> ConversionError:
    return ConversionError(
        f"{path} is not a valid safetensors file: {what}.", code="checkpoint-damaged"
    )
