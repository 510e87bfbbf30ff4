"""The metadata of a GGUF file, read by its specification: an oracle of the tests."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np

_NUMBERS = dict(enumerate("u1 i1 u2 i2 u4 i4 f4 ? - - u8 i8 f8".split()))
_STRING, _LIST = 8, 9


def read_metadata(path: Path, prefix: str = "") -> dict[str, Any]:
    """All metadata whose key begins with a prefix.

    Args:
        path: the file.
        prefix: what the keys begin with.
    """
    with path.open("rb") as file:
        return _read(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), prefix)


def _read(data: mmap.mmap, prefix: str) -> dict[str, Any]:
    magic, version, _, count = struct.unpack_from("<4sIQQ", data)
    assert (magic, version >= 2) == (b"GGUF", True)
    at, found = 24, {}
    for _ in range(count):
        key, at = _string(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        value, at = _value(data, at + 4, kind)
        if key.startswith(prefix):
            found[key] = value
    return found


def _string(data: mmap.mmap, at: int) -> tuple[str, int]:
    (size,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + size].decode(), at + 8 + size


def _value(data: mmap.mmap, at: int, kind: int) -> tuple[Any, int]:
    if kind == _STRING:
        return _string(data, at)
    if kind != _LIST:
        dtype = np.dtype(_NUMBERS[kind])
        return np.frombuffer(data, dtype, 1, at)[0].item(), at + dtype.itemsize
    kind, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if kind in (_STRING, _LIST):
        values = []
        for _ in range(count):
            value, at = _value(data, at, kind)
            values.append(value)
        return values, at
    dtype = np.dtype(_NUMBERS[kind])
    return np.frombuffer(data, dtype, count, at).copy(), at + count * dtype.itemsize
