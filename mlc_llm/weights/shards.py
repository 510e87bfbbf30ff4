"""Reading shards: memory-mapped, so that a tensor costs nothing until it is used."""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ModelFolderError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.weights.manifest import Manifest, ShardRecord, TensorRecord

_CHUNK = 1 << 20
_MAPPED = 2
"""Shards that stay mapped. Each map holds a file open, and a process may have few of them open."""


class Shards:
    """The shards of one folder.

    A tensor's array is a read-only view of its memory-mapped shard; the map lives as long as a
    view of it. May be used from several threads.

    A shard must not be cut short while a view of it is in use: the system then ends the process
    (SIGBUS), as with every mapped file. Whether it is whole is checked whenever a tensor is read.

    Args:
        folder: where the shards lie.
        manifest: what they hold.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._shards = {shard.file: shard for shard in manifest.shards}
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()
        self._lock = threading.Lock()

    def check(self) -> None:
        """Check that every shard is there and has its size.

        Raises:
            ModelFolderError: one is missing, a Git-LFS pointer, or too short or too long.
        """
        for shard in self._shards.values():
            self._check(shard)

    def verify(self, advance: Callable[[int], None] | None = None) -> None:
        """Check every shard as :meth:`check` does, and its MD5 checksum.

        Args:
            advance: called with the number of bytes that were read since the last call.

        Raises:
            ModelFolderError: as :meth:`check`, or the checksum differs.
        """
        for shard in self._shards.values():
            path = self._check(shard)
            try:
                found = md5sum(path, advance)
            except OSError as error:
                raise _unreadable(path, error) from None
            if shard.md5 is not None and found != shard.md5.lower():
                raise ModelFolderError(
                    f"{path} is damaged: its MD5 checksum is {found}, not {shard.md5}. "
                    "Fetch or convert the model again.",
                    code="weights-damaged",
                )

    def read(self, record: TensorRecord) -> npt.NDArray[np.generic]:
        """Return a tensor as a read-only array of its shape and dtype.

        A tensor that is stored as bfloat16 is widened, and one that lies at an odd address is
        copied; every other is a view of the shard.

        Raises:
            ModelFolderError: its shard cannot be read, or is not whole any more.
        """
        dtype = np.dtype("<u2" if record.narrowed else record.dtype).newbyteorder("<")
        count = record.nbytes // dtype.itemsize
        if count:
            array = np.frombuffer(self._map(record.shard), dtype, count, record.offset)
        else:
            array = np.empty(0, dtype)
        if record.narrowed:
            array = widen_bfloat16(array)
        elif not array.flags.aligned:
            array = array.copy()
        array = array.reshape(record.shape)
        array.flags.writeable = False
        return array

    def forget(self, record: TensorRecord) -> None:
        """Let go of the pages of a tensor, where the system can; reading it again maps them again.

        The file stays in the system's cache, but does not count as this process's memory any more.
        """
        with self._lock:
            mapped = self._maps.get(record.shard)
        if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            begin = record.offset // mmap.PAGESIZE * mmap.PAGESIZE
            mapped.madvise(mmap.MADV_DONTNEED, begin, record.offset + record.nbytes - begin)

    def close(self) -> None:
        """Let go of the maps; each goes when the last view of it does."""
        with self._lock:
            self._maps.clear()

    def _check(self, shard: ShardRecord) -> Path:
        path = self._folder / shard.file
        try:
            found = path.stat().st_size if path.is_file() else None
            if found != shard.nbytes and found is not None:
                refuse_lfs_pointer(path, ModelFolderError)
        except OSError as error:
            raise _unreadable(path, error) from None
        if found is None:
            raise ModelFolderError(
                f"The shard {shard.file} is missing in {self._folder}. "
                "Fetch or convert the model again.",
                code="shard-missing",
            )
        if found != shard.nbytes:
            raise _wrong_size(path, shard, found)
        return path

    def _map(self, file: str) -> mmap.mmap:
        """A shard's map, which has the size that the manifest says."""
        shard = self._shards[file]
        with self._lock:
            if file not in self._maps:
                self._maps[file] = _mapped(self._check(shard), shard)
            elif (found := self._maps[file].size()) < shard.nbytes:
                raise _wrong_size(self._folder / file, shard, found)
            self._maps.move_to_end(file)
            while len(self._maps) > _MAPPED:
                self._maps.popitem(last=False)  # closed with the last view of it
            return self._maps[file]


def _mapped(path: Path, shard: ShardRecord) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), shard.nbytes, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # it was shorter than that
        raise _unreadable(path, error) from None
    if (found := mapped.size()) < shard.nbytes:  # it was cut in the meantime
        raise _wrong_size(path, shard, found)
    return mapped


def _unreadable(path: Path, error: OSError | ValueError) -> ModelFolderError:
    reason = getattr(error, "strerror", None) or error
    return ModelFolderError(f"{path} cannot be read: {reason}.", code="file-unreadable")


def _wrong_size(path: Path, shard: ShardRecord, found: int) -> ModelFolderError:
    return ModelFolderError(
        f"{path} has {found} bytes, not {shard.nbytes} as its manifest says: "
        f"it is {'cut short' if found < shard.nbytes else 'not the file it should be'}. "
        "Fetch or convert the model again.",
        code="weights-damaged",
    )


def md5sum(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """The MD5 checksum of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            if advance is not None:
                advance(len(chunk))
    return digest.hexdigest()


def widen_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 values of bfloat16 numbers, given as their 16 bits; any shape."""
    wide = bits.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)
