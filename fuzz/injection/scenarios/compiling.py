"""Compiling a library to a file, and just in time into the cache."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from fuzz.injection.program import Unsound, mlc_llm
from fuzz.injection.scenario import Scenario
from mlc_llm.compile.child import LIBRARY_SUFFIX
from mlc_llm.errors import MLCError
from mlc_llm.library.cache import DIGEST_SUFFIX, LibraryCache
from mlc_llm.library.record import read_record
from mlc_llm.testing.model_folder import make_model_folder

_SIZES: dict[str, Any] = {
    "num_hidden_layers": 1,
    "hidden_size": 64,
    "intermediate_size": 64,
    "head_dim": 16,
}


class Compiling(Scenario):
    """``mlc_llm compile``: a whole library is there, or none."""

    name = "compile"
    rounds = 4

    @cached_property
    def _model(self) -> Path:
        folder = self.inputs / "small-model"
        return folder if folder.exists() else make_model_folder(folder, "q4f16_1", **_SIZES)

    def command(self, work: Path) -> list[str]:
        output = work / f"library{LIBRARY_SUFFIX}"
        return mlc_llm("compile", self._model, "--device", "cpu", "-o", output)

    def check(self, work: Path) -> None:
        library = work / f"library{LIBRARY_SUFFIX}"
        if library.exists():
            try:
                read_record(library)
            except MLCError as error:
                raise Unsound(f"half of a library is there: {error}") from error

    def check_done(self, work: Path) -> None:
        self.check(work)
        names = [path.name for path in work.iterdir() if path.name not in ("cache", ".cache")]
        if names != [f"library{LIBRARY_SUFFIX}"]:
            raise Unsound(f"the folder has {sorted(names)}")


class CompilingIntoTheCache(Compiling):
    """A chat whose library is compiled first: what is in the cache is whole, or not taken."""

    name = "compile for a chat"
    rounds = 4

    def command(self, work: Path) -> list[str]:
        options = ["--device", "cpu", "--prompt", "Hi", "--max-gen-len", "1"]
        return mlc_llm("chat", self._model, *options)

    def check(self, work: Path) -> None:
        cache = LibraryCache(work / "cache" / "libraries")
        for library in cache.folder.glob(f"*{LIBRARY_SUFFIX}"):
            if cache.problem(library) is None:
                read_record(library)

    def check_done(self, work: Path) -> None:
        self.check(work)
        folder = work / "cache" / "libraries"
        suffixes = sorted(path.suffix for path in folder.iterdir() if path.is_file())
        if suffixes != sorted([LIBRARY_SUFFIX, DIGEST_SUFFIX]):
            raise Unsound(f"the cache has {sorted(path.name for path in folder.iterdir())}")
        if left := list((folder / "building").glob("*")):
            raise Unsound(f"the cache has {left}")
