"""A checkpoint that is converted into the cache: a conversion that was cut goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from fuzz.injection.program import Unsound, run
from fuzz.injection.scenario import Scenario
from mlc_llm.errors import MLCError
from mlc_llm.testing.model_folder import make_checkpoint
from mlc_llm.weights.journal import Journal
from mlc_llm.weights.manifest import Manifest
from mlc_llm.weights.partial import is_partial
from mlc_llm.weights.scratch import SCRATCH_PREFIX
from mlc_llm.weights.shards import Shards

_SHARD_BYTES = 1 << 18
_SIZES = {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 768}
"""A model of some twenty shards, whose conversion takes as long as the start."""
_PROGRAM = """
import sys
from pathlib import Path
import mlc_llm.weights.shard_writer as shard_writer
from mlc_llm.cli.app import show_error
from mlc_llm.convert.cached import converted
from mlc_llm.device.cpu import CPU
from mlc_llm.errors import MLCError
shard_writer.SHARD_BYTES = int(sys.argv[2])
try:
    converted(Path(sys.argv[1]), CPU)
except MLCError as error:
    show_error(error)
    sys.exit(1)
"""


class ConvertingIntoTheCache(Scenario):
    """A conversion that keeps its shards where it is cut, and does not write them again."""

    name = "convert for a chat"
    rounds = 12

    def __init__(self, inputs: Path) -> None:
        super().__init__(inputs)
        self._kept: dict[str, int] = {}

    @cached_property
    def _source(self) -> Path:
        sizes = {**_SIZES, "num_attention_heads": 8, "num_key_value_heads": 4}
        return make_checkpoint(self.inputs / "checkpoint", **sizes)

    @cached_property
    def _expected(self) -> Mapping[str, bytes]:
        """The files of the same, converted in peace."""
        run(self.command(self.inputs), self.variables(self.inputs)).require_success("the model")
        [folder] = _folders(self.inputs)
        return _content(folder)

    def command(self, work: Path) -> list[str]:
        return [sys.executable, "-c", _PROGRAM, str(self._source), str(_SHARD_BYTES)]

    def check(self, work: Path) -> None:
        self._kept = {}
        for litter in _root(work).glob(f"{SCRATCH_PREFIX}*"):
            os.utime(litter, (0, 0))  # A young one may be in use, and stays.
        for folder in _folders(work):
            if folder.name.startswith(SCRATCH_PREFIX):
                continue
            if not is_partial(folder):
                self._require_whole(folder)
                continue
            shards = Journal.read(folder).shards
            try:
                Shards(folder, Manifest(tuple(shards))).verify()
            except MLCError as error:
                raise Unsound(f"a shard in the journal is damaged: {error}") from error
            self._kept = _times(folder, [shard.file for shard in shards])

    def check_done(self, work: Path) -> None:
        folders = list(_folders(work))
        if len(folders) != 1 or is_partial(folders[0]):
            raise Unsound(f"the cache has {sorted(folder.name for folder in folders)}")
        self._require_whole(folders[0])
        if self._kept != _times(folders[0], list(self._kept)):
            raise Unsound("shards were written again")
        self._kept = {}

    def _require_whole(self, folder: Path) -> None:
        if _content(folder) != self._expected:
            raise Unsound("the model is not that of a conversion in peace")


def _folders(work: Path) -> Iterator[Path]:
    """The models in the cache, and what is left of others."""
    return (path for path in _root(work).glob("*") if path.is_dir())


def _root(work: Path) -> Path:
    return work / "cache" / "converted"


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _times(folder: Path, names: list[str]) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in names}
