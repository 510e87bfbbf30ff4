"""Reading the header of a GGUF file: its metadata, and where its tensors lie.

The format, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): the bytes
``GGUF``; the version, a uint32; how many tensors and how many settings follow, each a uint64; the
settings, each a key, a type and a value; the tensors, each a name, a shape whose first size is the
innermost, a type and an offset; padding to a multiple of ``general.alignment``; then the tensors'
bytes, at offsets from there.

Everything that a header says is checked against the size of the file before anything is read or
made for it, and against limits well above those of published files.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlc_llm.errors import ConversionError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.sources.gguf_cursor import Cursor
from mlc_llm.sources.gguf_types import TYPE_NAMES, TYPES
from mlc_llm.weights.paths import shown_name

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Version 1, of August 2023, has other sizes; files of it are hardly left."""

LONGEST_ARRAY = 1 << 22
"""Elements; the longest array of a published file has some 600,000 merges."""
MOST_SETTINGS = 1 << 16
MOST_TENSORS = 1 << 18
MOST_AXES = 4

_DEFAULT_ALIGNMENT, _MOST_ALIGNMENT = 32, 4 << 20

_STRING, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
"""Types of settings that are numbers, as NumPy names them."""


@dataclass(frozen=True)
class GGUFEntry:
    """A tensor as a header lists it.

    Args:
        name: its name in the file.
        shape: its shape, the innermost size last.
        type: its type's name, such as ``Q4_K``.
        begin: where its bytes begin in the file.
        end: where they end.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    begin: int
    end: int


@dataclass(frozen=True)
class GGUFHeader:
    """What the header of a file says.

    Args:
        path: the file.
        metadata: its settings by their keys.
        tensors: its tensors by their names.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GGUFEntry]


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def read_header(path: Path) -> GGUFHeader:
    """Read the header of a file, and check that the file holds what it lists.

    Raises:
        ConversionError: the file cannot be read, is a Git-LFS pointer, of another version, or is
            cut short or malformed.
    """
    refuse_lfs_pointer(path, ConversionError)
    try:
        with path.open("rb") as file:
            return _read(path, Cursor(path, file))
    except OSError as error:
        raise ConversionError(
            f"{path} cannot be read: {error.strerror or error}.", code="file-unreadable"
        ) from None


def _read(path: Path, cursor: Cursor) -> GGUFHeader:
    if cursor.numbers("S4", 1) != [MAGIC]:
        raise cursor.refuse("it does not begin with GGUF")
    _check_version(path, cursor.number("<u4"))
    tensors = cursor.size_of("tensors", MOST_TENSORS, 24)
    settings = cursor.size_of("settings", MOST_SETTINGS, 13)
    metadata = _metadata(cursor, settings)
    listed = [_listed(cursor) for _ in range(tensors)]
    alignment = _alignment(cursor, metadata)
    data = -(-cursor.at // alignment) * alignment
    placed = [_placed(cursor, one, data, alignment) for one in listed]
    _check_places(cursor, placed)
    return GGUFHeader(path, metadata, {entry.name: entry for entry in placed})


def _check_version(path: Path, version: int) -> None:
    if version in VERSIONS:
        return
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    what = (
        "is for big-endian machines"
        if swapped in VERSIONS
        else f"is of version {version} of GGUF; versions 2 and 3 are read"
    )
    raise ConversionError(
        f"{path} {what}. Take a file that a newer llama.cpp wrote.", code="gguf-version"
    )


def _metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.name("a key")
        if key in metadata:
            raise cursor.refuse(f"it has the key {shown_name(key)} twice")
        metadata[key] = _value(cursor, key, cursor.number("<u4"))
    return metadata


def _value(cursor: Cursor, key: str, kind: int) -> Any:
    if kind != _ARRAY:
        return _values(cursor, key, kind)(1)[0]
    inner = cursor.number("<u4")
    read = _values(cursor, key, inner)
    each = 8 if inner == _STRING else 1 if inner == _BOOL else np.dtype(_NUMBERS[inner]).itemsize
    return read(cursor.size_of(f"elements in {shown_name(key)}", LONGEST_ARRAY, each))


def _values(cursor: Cursor, key: str, kind: int) -> Callable[[int], list[Any]]:
    """Reads a number of values of a type."""
    if kind == _STRING:
        return cursor.texts
    if kind == _BOOL:
        return lambda count: [value != 0 for value in cursor.numbers("<u1", count)]
    if kind in _NUMBERS:
        return lambda count: cursor.numbers(_NUMBERS[kind], count)
    raise cursor.refuse(f"the value of {shown_name(key)} is of the type {kind}, which is not read")


def _listed(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, type and offset of the next tensor."""
    name = cursor.name("a tensor's name")
    axes = cursor.number("<u4")
    if not 1 <= axes <= MOST_AXES:
        raise cursor.refuse(f"{shown_name(name)} has {axes} axes, not 1 to {MOST_AXES}")
    shape = tuple(reversed(cursor.numbers("<u8", axes)))
    return name, shape, cursor.number("<u4"), cursor.number("<u8")


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 1 <= value <= _MOST_ALIGNMENT or value & (value - 1):
        raise cursor.refuse(f"its general.alignment is {shown_name(repr(value))}, not a power of 2")
    return value


def _placed(
    cursor: Cursor, listed: tuple[str, tuple[int, ...], int, int], data: int, alignment: int
) -> GGUFEntry:
    """A tensor with the bytes that it has in the file, which begin at ``data`` for all."""
    name, shape, number, offset = listed
    known = TYPES.get(TYPE_NAMES.get(number, ""))
    if known is None:
        raise ConversionError(
            f"{shown_name(name)} in {cursor.path} is of the type {number}, which is not a known "
            "type of GGUF. Update mlc-llm, or take another file of the model.",
            code="dtype-unsupported",
        )
    if shape[-1] % known.weights:
        raise cursor.refuse(
            f"{shown_name(name)} has rows of {shape[-1]} weights, and blocks of {known.name} have "
            f"{known.weights}"
        )
    if offset % alignment:
        raise cursor.refuse(f"{shown_name(name)} begins at {offset}, not a multiple of {alignment}")
    nbytes = math.prod(shape) // known.weights * known.nbytes
    end = data + offset + nbytes
    if end > cursor.size:
        raise ConversionError(
            f"{cursor.path} is cut short: {shown_name(name)} ends at byte {end} and the file at "
            f"{cursor.size}. Fetch it again.",
            code="checkpoint-damaged",
        )
    return GGUFEntry(name, shape, known.name, data + offset, end)


def _check_places(cursor: Cursor, placed: list[GGUFEntry]) -> None:
    """Refuse two tensors of one name, and two in the same bytes."""
    names: set[str] = set()
    for entry in placed:
        if entry.name in names:
            raise cursor.refuse(f"it has the tensor {shown_name(entry.name)} twice")
        names.add(entry.name)
    ordered = sorted(placed, key=lambda entry: (entry.begin, entry.end))
    for one, other in itertools.pairwise(ordered):
        if other.begin < one.end:
            raise cursor.refuse(f"{shown_name(one.name)} and {shown_name(other.name)} share bytes")
