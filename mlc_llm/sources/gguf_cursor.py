"""Reading the header of a GGUF file value by value, within the file and within limits."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mlc_llm.errors import ConversionError
from mlc_llm.weights.paths import shown_name

LONGEST_HEADER = 64 << 20
"""Bytes; the longest header of a published file, with 262,144 tokens, has some 15 MB."""
LONGEST_NAME = 1 << 16
"""Bytes of a key or a name; the format allows that many in a key."""

_CHUNK = 4 << 20


class Cursor:
    """Reads values one after the other, the file some megabytes at a time.

    All its methods raise ConversionError where the file ends, or a limit is passed.

    Args:
        path: the file, for messages.
        file: the same, opened.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0
        self._buffer = bytearray()

    def refuse(self, what: str) -> ConversionError:
        """The error for a header that is malformed."""
        return ConversionError(
            f"{self.path} is not a valid GGUF file: {what}.", code="checkpoint-damaged"
        )

    def need(self, count: int) -> None:
        """Have the next ``count`` bytes in memory."""
        end = self.at + count
        if end <= len(self._buffer):
            return
        if end > self.size:
            raise ConversionError(
                f"{self.path} is cut short: its header goes beyond its {self.size} bytes. Fetch "
                "it again.",
                code="checkpoint-damaged",
            )
        if end > LONGEST_HEADER:
            raise self.refuse(f"its header has more than {LONGEST_HEADER} bytes")
        self._buffer += self._file.read(max(_CHUNK, end - len(self._buffer)))
        if end > len(self._buffer):
            raise self.refuse("it changed while it was read")

    def number(self, dtype: str) -> Any:
        """The next number of a type of NumPy's."""
        return self.numbers(dtype, 1)[0]

    def numbers(self, dtype: str, count: int) -> list[Any]:
        """The next ``count`` numbers of that type."""
        nbytes = np.dtype(dtype).itemsize * count
        self.need(nbytes)
        values = np.frombuffer(bytes(self._buffer[self.at : self.at + nbytes]), dtype)
        self.at += nbytes
        return list(values.tolist())

    def size_of(self, what: str, most: int, each: int) -> int:
        """The next uint64, a number of things with ``each`` bytes or more that still follow."""
        count = int(self.number("<u8"))
        if count > most:
            raise self.refuse(f"it has {count} {what}, where {most} are the most")
        if count * each > self.size - self.at:
            raise ConversionError(
                f"{self.path} is cut short: {count} {what} do not fit into its {self.size} "
                "bytes. Fetch it again.",
                code="checkpoint-damaged",
            )
        return count

    def texts(self, count: int) -> list[str]:
        """The next ``count`` strings; bytes that are not UTF-8 become U+FFFD."""
        found, unpack = [], struct.Struct("<Q").unpack_from
        for _ in range(count):
            self.need(8)
            (length,) = unpack(self._buffer, self.at)
            self.at += 8
            self.need(length)
            found.append(self._buffer[self.at : self.at + length].decode(errors="replace"))
            self.at += length
        return found

    def name(self, what: str) -> str:
        """The next string, which is a key or a name."""
        length = self.size_of(f"bytes in {what}", LONGEST_NAME, 1)
        self.need(length)
        text = bytes(self._buffer[self.at : self.at + length])
        self.at += length
        try:
            return text.decode()
        except UnicodeError:
            raise self.refuse(f"{what} is not UTF-8 text: {shown_name(repr(text))}") from None
