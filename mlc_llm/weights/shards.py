"""Reading shards: memory-mapped, so that a tensor costs nothing until it is used."""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ModelFolderError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.weights.manifest import Manifest, ShardRecord, TensorRecord

_CHUNK = 1 << 20


class Shards:
    """The shards of one folder.

    A tensor's array is a read-only view of its memory-mapped shard; the map lives as long as a
    view of it or this object does. May be used from several threads.

    Args:
        folder: where the shards lie.
        manifest: what they hold.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._folder = folder
        self._shards = {shard.file: shard for shard in manifest.shards}
        self._maps: dict[str, npt.NDArray[np.uint8]] = {}
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
            found = md5sum(path, advance)
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
        """
        stored = self._map(record.shard)[record.offset : record.offset + record.nbytes]
        if record.narrowed:
            array = widen_bfloat16(np.frombuffer(stored, "<u2"))
        else:
            array = np.frombuffer(stored, np.dtype(record.dtype).newbyteorder("<"))
            if not array.flags.aligned:
                array = array.copy()
        array = array.reshape(record.shape)
        array.flags.writeable = False
        return array

    def forget(self, record: TensorRecord) -> None:
        """Let go of the pages of a tensor, where the system can; reading it again maps them again.

        The file stays in the system's cache, but does not count as this process's memory any more.
        """
        with self._lock:
            array = self._maps.get(record.shard)
        mapped = None if array is None else array.base
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
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
            raise ModelFolderError(
                f"{path} cannot be read: {error.strerror}.", code="file-unreadable"
            ) from None
        if found is None:
            raise ModelFolderError(
                f"The shard {shard.file} is missing in {self._folder}. "
                "Fetch or convert the model again.",
                code="shard-missing",
            )
        if found != shard.nbytes:
            raise ModelFolderError(
                f"{path} has {found} bytes, not {shard.nbytes} as its manifest says: "
                f"it is {'cut short' if found < shard.nbytes else 'not the file it should be'}. "
                "Fetch or convert the model again.",
                code="weights-damaged",
            )
        return path

    def _map(self, file: str) -> npt.NDArray[np.uint8]:
        with self._lock:
            if file not in self._maps:
                path = self._check(self._shards[file])
                if self._shards[file].nbytes:
                    self._maps[file] = np.memmap(path, np.uint8, mode="r")
                else:  # an empty file cannot be mapped
                    self._maps[file] = np.empty(0, np.uint8)
            return self._maps[file]


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
