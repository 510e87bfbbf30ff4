"""Keys and values of a sequence in a file: written layer by layer, and read back layer by layer.

A file belongs to one library, one set of weights and one layout of pages, and is refused elsewhere.
Its checksums (CRC-32) show damage; they do not protect from forgery. docs/formats.md describes the
format.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, Self
from zlib import crc32

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import SavedChatError
from mlc_llm.files import atomic_file
from mlc_llm.runtime.cache_header import (
    CHECKSUMS,
    PHASES,
    TOKENS,
    Header,
    StoredTensor,
    header_bytes,
    layout_text,
    malformed,
    stored_tensors,
)
from mlc_llm.runtime.engine import Stop
from mlc_llm.runtime.identity import Identity
from mlc_llm.runtime.kv_cache import KVCache, Words
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.runtime.sequence import DECODED, PREFILLED, CachedSequence


def write_cache_file(
    path: Path,
    identity: Identity,
    cache: KVCache,
    sequence: CachedSequence,
    count: int,
    stop: Stop | None = None,
) -> None:
    """Write the keys and values of a sequence; only one layer of them is in memory at a time.

    Args:
        path: the file; one that is there is replaced when all is written.
        identity: the model.
        cache: where the sequence is.
        sequence: the sequence.
        count: how many of its first tokens are written, at least one.
        stop: looked at between the layers.

    Raises:
        SavedChatError: the file cannot be written; what was there stays.
    """
    geometry = cache.geometry
    tensors = stored_tensors(geometry, count)
    pages = sequence.pages[: -(-count // geometry.page_size)]
    ids = np.asarray(sequence.tokens[:count], "<i4")
    phases = np.asarray(sequence.phases[:count], np.uint8)
    checksums = [crc32(ids.data), crc32(phases.data)]
    try:
        with atomic_file(Path(os.path.realpath(path)), private=True) as file:
            file.write(header_bytes(tensors, identity, layout_text(geometry)))
            file.write(ids.data)
            for layer in range(len(geometry.own)):
                _check(stop)
                checksums.append(_write_layer(file, cache, layer, pages, count))
            file.write(np.asarray(checksums, "<u4").data)
            file.write(phases.data)
    except OSError as error:
        raise SavedChatError(
            f"{path} cannot be written: {error.strerror or error}.", code="file-unwritable"
        ) from None


def _write_layer(
    file: BinaryIO, cache: KVCache, layer: int, pages: Sequence[int], tokens: int
) -> int:
    """Write the pages of a layer; returns their checksum.

    Slots of the last page that have no token become zeros: they may hold another's.
    """
    spec, size = cache.geometry.own[layer], cache.geometry.page_size
    words = cache.read_pages(layer, pages)
    used, values = (tokens - 1) % size + 1, size * spec.key_size
    words[-1, :, used * spec.key_size : values] = 0
    words[-1, :, values + used * spec.value_size :] = 0
    file.write(words.data)
    return crc32(words.data)


class CacheFile:
    """A file of keys and values, opened and checked. :meth:`open` makes one.

    Attributes:
        tokens: the tokens.
        phases: the phase of each.
    """

    def __init__(
        self,
        path: Path,
        file: BufferedReader,
        tensors: Mapping[str, StoredTensor],
        begin: int,
        geometry: KVCacheGeometry,
    ) -> None:
        self._path, self._file, self._tensors, self._begin = path, file, tensors, begin
        self._count, self._word = len(geometry.own), np.dtype(f"uint{8 * geometry.item_size}")
        self._checksums = self._read(CHECKSUMS, np.dtype("<u4")).tolist()
        ids, phases = self._read(TOKENS, np.dtype("<i4")), self._read(PHASES, np.dtype(np.uint8))
        self._verify(TOKENS, ids, 0)
        self._verify(PHASES, phases, 1)
        if not np.isin(phases, (PREFILLED, DECODED)).all():
            raise malformed(path, "a token has a phase that is not known")
        self.tokens: list[int] = ids.tolist()
        self.phases = phases.tobytes()

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, identity: Identity, geometry: KVCacheGeometry, most: int
    ) -> Iterator[Self]:
        """Open a file, and check all but its keys and values.

        Args:
            path: the file.
            identity: the model, which must be the one that the file names.
            geometry: the shape of the pages.
            most: the most tokens that it may have.

        Raises:
            SavedChatError: the file cannot be read, is damaged, belongs to another model or has too
                many tokens; also in the ``with`` block, when reading it fails there.
        """
        try:
            if path.exists() and not path.is_file():
                raise SavedChatError(f"{path} is not a file.", code="file-unreadable")
            with path.open("rb") as file:
                header = Header(path, file)
                header.require(identity, layout_text(geometry))
                if header.tokens > most:
                    raise SavedChatError(
                        f"{path} has the keys and values of {header.tokens} tokens, and the "
                        f"context window holds {most}. Set a larger "
                        "ChatConfig(context_window_size=...) if the model can.",
                        code="cache-too-long",
                    )
                yield cls(path, file, header.tensors(geometry), header.length, geometry)
        except OSError as error:
            raise SavedChatError(
                f"{path} cannot be read: {error.strerror or error}.", code="file-unreadable"
            ) from None

    def restore(
        self, cache: KVCache, sequence: CachedSequence, count: int, stop: Stop | None = None
    ) -> None:
        """Put the first tokens into a sequence, in place of what it has.

        Args:
            cache: where the sequence is; its geometry is the one that the file was opened for.
            sequence: the sequence. If this fails, it is empty.
            count: how many tokens.
            stop: looked at between the layers.

        Raises:
            SavedChatError: the file is damaged.
            OutOfPages: the cache has not enough pages left.
        """
        sequence.truncate(0)
        try:
            sequence.reserve(count)
            for layer, words in enumerate(self._layers()):
                _check(stop)
                cache.write_pages(layer, sequence.pages, words[: len(sequence.pages)])
        except BaseException:
            sequence.truncate(0)
            raise
        sequence.adopt(self.tokens[:count], self.phases[:count])

    def _layers(self) -> Iterator[Words]:
        """The pages of each layer, (number of pages, *page shape); valid until the next.

        They are read, not mapped into memory: there a file that shrinks would end the process.
        """
        tensors = [self._tensors[f"pages.{layer}"] for layer in range(self._count)]
        buffer = np.empty(max(t.end - t.begin for t in tensors), np.uint8)
        for number, tensor in enumerate(tensors):
            words = self._read(tensor.name, self._word, buffer)
            self._verify(tensor.name, words, 2 + number)
            yield words

    def _read(
        self, name: str, dtype: np.dtype[Any], buffer: npt.NDArray[np.uint8] | None = None
    ) -> npt.NDArray[Any]:
        """A tensor's values, in the buffer if one is given."""
        tensor: StoredTensor = self._tensors[name]
        size = tensor.end - tensor.begin
        target = np.empty(size, np.uint8) if buffer is None else buffer[:size]
        self._file.seek(self._begin + tensor.begin)
        if self._file.readinto(target.data) != size:
            raise malformed(self._path, "it was cut short while it was read")
        return target.view(dtype).reshape(tensor.shape)

    def _verify(self, name: str, values: npt.NDArray[Any], index: int) -> None:
        if crc32(values.data) != self._checksums[index]:
            raise malformed(self._path, f"the checksum of {name!r} does not agree with it")


def _check(stop: Stop | None) -> None:
    if stop is not None:
        stop.check()
