"""Which shards of a folder are on the disk: what writing them goes on from when it was cut.

``shards.jsonl`` has a line for each, its record as the manifest has it, in JSON. A line is written
after its shard. One that cannot be read, such as the half that a loss of power leaves, ends it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from mlc_llm.errors import MLCError, ModelFolderError
from mlc_llm.files import parse_json_object, read_file, write_atomically
from mlc_llm.weights.manifest import Manifest, ShardRecord, dump_shard
from mlc_llm.weights.shards import Shards

JOURNAL_FILE = "shards.jsonl"

PlannedTensor = tuple[str, tuple[int, ...], str]
"""Name, shape and dtype of a tensor that will be written."""


class Journal:
    """The shards of a folder that are complete.

    Args:
        folder: where they are.
        shards: those that the file has.

    Attributes:
        shards: all of them, in the order in which they were written.
    """

    def __init__(self, folder: Path, shards: Iterable[ShardRecord] = ()) -> None:
        self._folder, self.shards = folder, list(shards)

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """The journal of a folder; without shards where there is none that can be read."""
        path, records = folder / JOURNAL_FILE, []
        try:
            for line in read_file(path, ModelFolderError).splitlines():
                records.append(parse_json_object(line, path, ModelFolderError))
        except MLCError:
            pass  # What stands before it counts.
        try:
            return cls(folder, Manifest.parse({"records": records}, str(path)).shards)
        except ModelFolderError:
            return cls(folder)

    @property
    def nbytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.nbytes for shard in self.shards)

    def add(self, shard: ShardRecord) -> None:
        """Add a shard that is on the disk.

        Raises:
            OSError: the line cannot be written.
        """
        with (self._folder / JOURNAL_FILE).open("ab") as file:
            file.write(_line(shard))
            file.flush()
            os.fsync(file.fileno())
        self.shards.append(shard)

    def keep_whole(
        self,
        tensors: Iterable[PlannedTensor],
        kept: Iterable[str],
        advance: Callable[[int], None] | None = None,
    ) -> None:
        """Forget the first shard that is damaged or not as planned, and all that follow it.

        Their files are deleted, and everything else that the folder holds.

        Args:
            tensors: what will be written, in that order.
            kept: names of files that stay as they are.
            advance: called with the number of bytes that were read since the last call.

        Raises:
            OSError: something cannot be deleted, or the journal cannot be written.
        """
        self.shards = self.shards[: self._count_whole(tensors, advance)]
        names = {JOURNAL_FILE, *kept, *(shard.file for shard in self.shards)}
        for path in self._folder.iterdir():
            if path.name not in names:
                _delete(path)
        write_atomically(self._folder / JOURNAL_FILE, b"".join(map(_line, self.shards)))

    def _count_whole(
        self, tensors: Iterable[PlannedTensor], advance: Callable[[int], None] | None
    ) -> int:
        """How many shards, from the first on, hold what is planned and have their checksums."""
        planned = iter(tensors)
        for count, shard in enumerate(self.shards):
            found = [(tensor.name, tensor.shape, tensor.dtype) for tensor in shard.tensors]
            if found != [next(planned, None) for _ in found]:
                return count
            try:
                Shards(self._folder, Manifest((shard,))).verify(advance)
            except ModelFolderError:
                return count
        return len(self.shards)


def _line(shard: ShardRecord) -> bytes:
    return json.dumps(dump_shard(shard)).encode() + b"\n"


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
