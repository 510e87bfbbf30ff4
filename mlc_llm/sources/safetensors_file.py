"""Reading a safetensors file tensor by tensor and row by row, without torch.

The format: the header's length as a little-endian uint64; the header, a JSON object of
``{name: {"dtype", "shape", "data_offsets": [begin, end]}}``; then the tensors' bytes, row-major and
little-endian, at these offsets. See https://huggingface.co/docs/safetensors.

The library ``safetensors`` checks the header, so that what it refuses is refused here. It does not
read bfloat16 without torch, which is what most checkpoints are in: the values are read here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.plugin import Scheme, SourceTensor
from mlc_llm.plugin.source import Rows
from mlc_llm.sources.rows import read_rows
from mlc_llm.weights.paths import shown
from mlc_llm.weights.shards import widen_bfloat16

LONGEST_HEADER = 16 << 20
"""Bytes, of some 100,000 tensors. The format's own limit is 100 MB, which would take some 2 GB of
memory to read; the longest header of a published file has about 1 MB."""

_LONGEST_REASON = 500
"""Characters that are shown of what the library says, which may quote the whole header."""

_BFLOAT16 = "BF16"
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", _BFLOAT16: "<u2"}
_KEPT = {
    "F16": Scheme(16, "float16"),
    "F32": Scheme(32, "float32"),
    _BFLOAT16: Scheme(16, "float16"),
}


@dataclass(frozen=True)
class FileTensor(SourceTensor):
    """A tensor whose values lie in a file, row-major, as floating-point numbers or others.

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

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        """Bytes of the file."""
        return self.end - self.begin

    @property
    def scheme(self) -> Scheme | None:
        """Its own floats; of bfloat16 those of float16, which has more digits and less range."""
        return _KEPT.get(self.dtype)

    def require_readable(self) -> None:
        if self.dtype not in _FLOATS:
            raise ConversionError(
                f"{shown(self.name)} in {self.file} has the dtype {self.dtype}; only "
                f"{', '.join(sorted(_FLOATS))} can be converted.",
                code="dtype-unsupported",
            )

    def read(self, rows: Rows = ...) -> npt.NDArray[np.float32]:
        self.require_readable()
        dtype = _FLOATS[self.dtype]
        stored = read_rows(self.name, self.file, self.begin, dtype, self.shape, rows)
        if self.dtype == _BFLOAT16:
            return widen_bfloat16(stored)
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which is refused
            return stored.astype(np.float32, copy=False)


def read_header(path: Path) -> dict[str, FileTensor]:
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


def _tensor(name: str, entry: Mapping[str, Any], path: Path, data: int) -> FileTensor:
    """An entry of a header that was checked, in a file whose tensors begin at ``data``."""
    begin, end = entry["data_offsets"]
    return FileTensor(name, tuple(entry["shape"]), entry["dtype"], path, data + begin, data + end)


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
