"""Writing shards and their manifest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mlc_llm.weights.journal import Journal
from mlc_llm.weights.manifest import Manifest, ShardRecord, TensorRecord

SHARD_BYTES = 32 << 20
"""Most bytes of a shard that holds several tensors; a larger tensor has a shard of its own."""

ALIGNMENT = 64
"""Tensors begin at multiples of this, so that TVM can use the mapped bytes as they are."""


class ShardWriter:
    """Write tensors into ``params_shard_<n>.bin`` files, one after the other.

    Nothing is held in memory but the block that is being written. Leaving the context before
    :meth:`finish` has returned removes the shard that is not complete.

    Args:
        folder: where to write; files there are not overwritten.
        prefix: what the shards' names begin with.
        limit: most bytes of a shard; :data:`SHARD_BYTES` by default.
        journal: has the shards that are there already, the first ones of those that the same calls
            would write, and is told of each that is complete.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str = "params_shard_",
        limit: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._folder, self._prefix = folder, prefix
        self._limit = SHARD_BYTES if limit is None else limit
        self._journal = journal
        self._shards = [] if journal is None else [*journal.shards]
        self._there = {tensor.name for shard in self._shards for tensor in shard.tensors}
        self._open: _OpenShard | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            # Only after a failure; closing writes what is buffered, which may fail again.
            with contextlib.suppress(OSError):
                self._open.file.close()
            with contextlib.suppress(OSError):
                (self._folder / self._open.name).unlink()
            self._open = None

    def has(self, name: str) -> bool:
        """Whether a tensor is in one of the journal's shards."""
        return name in self._there

    def add(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        blocks: Iterable[npt.NDArray[np.generic]],
    ) -> None:
        """Append a tensor, unless it is there; then its blocks are only gone through.

        Args:
            name: the tensor's name.
            shape: its shape.
            dtype: its dtype, which the blocks must have.
            blocks: its elements in row-major order, in pieces of any shape.

        Raises:
            ValueError: the blocks have another dtype, or too few or too many elements.
            OSError: writing failed.
        """
        if self.has(name):
            for _ in blocks:
                pass  # Making them may make those of the next tensor, too.
            return
        record = TensorRecord(name, tuple(shape), dtype, "", 0, 0)
        nbytes = record.stored_nbytes()
        shard = self._shard_for(nbytes)
        offset = shard.pad()
        for block in blocks:
            if block.dtype != np.dtype(dtype):
                raise ValueError(f"{name}: a block of {block.dtype}, not {dtype}")
            shard.write(_bytes(block))
        if shard.size - offset != nbytes:
            raise ValueError(f"{name}: {shard.size - offset} bytes for the shape {shape}")
        shard.tensors.append(TensorRecord(name, tuple(shape), dtype, shard.name, offset, nbytes))

    def finish(self, metadata: dict[str, Any]) -> Manifest:
        """Close the last shard; return the manifest, which is for the caller to write."""
        self._close()
        return Manifest(tuple(self._shards), metadata)

    def _shard_for(self, nbytes: int) -> _OpenShard:
        """The shard that a tensor of that size goes to, opened if need be."""
        if self._open is not None and self._open.size + nbytes > self._limit:
            self._close()
        if self._open is None:
            name = f"{self._prefix}{len(self._shards)}.bin"
            self._open = _OpenShard(name, (self._folder / name).open("xb"))
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            shard = self._open.close()
            self._open = None
            self._shards.append(shard)
            if self._journal is not None:
                self._journal.add(shard)


class _OpenShard:
    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name, self.file = name, file
        self.size = 0
        self.tensors: list[TensorRecord] = []
        self._digest = hashlib.md5(usedforsecurity=False)

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def pad(self) -> int:
        """Write zeros up to the next aligned offset, and return it."""
        self.write(bytes(-self.size % ALIGNMENT))
        return self.size

    def close(self) -> ShardRecord:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return ShardRecord(self.name, self.size, self._digest.hexdigest(), tuple(self.tensors))


def _bytes(block: npt.NDArray[np.generic]) -> memoryview:
    """The elements' bytes in row-major order, little-endian."""
    flat = np.ascontiguousarray(block, block.dtype.newbyteorder("<")).reshape(-1)
    return flat.view(np.uint8).data
