"""The folder of compiled libraries: one file a key, whole or not there.

A library is built in a work folder beside its final place and moved there when it is finished,
with a digest of it in a second file. A lock for each key, which the system releases when its holder
dies, makes two processes build once. What killed builds left is swept away by the next process.

Opening a library runs its code. So the folder and the library must be the user's own, and the
digest must be that of the file (see :mod:`mlc_llm.library.trust`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlc_llm.cache_root import cache_root
from mlc_llm.compile.child import LIBRARY_SUFFIX
from mlc_llm.library.trust import (
    OWNER_ONLY_FILE,
    OWNER_ONLY_FOLDER,
    file_digest,
    owner_problem,
)

if TYPE_CHECKING:
    from filelock import FileLock

logger = logging.getLogger("mlc_llm")

DIGEST_SUFFIX = ".blake2b"

_DIGEST_BYTES = 64
"""Of a digest's file, which has no more."""


def cache_folder() -> Path:
    """Where libraries are cached: ``$MLC_LLM_CACHE/libraries``, or below the user's cache."""
    return cache_root() / "libraries"


class LibraryCache:
    """A folder of compiled libraries.

    Args:
        folder: by default :func:`cache_folder`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder()

    def path(self, key: str) -> Path:
        """Where the library of that key stands once it is built."""
        return self.folder / f"{key}{LIBRARY_SUFFIX}"

    def folder_problem(self) -> str | None:
        """Why nothing in the folder can be trusted, or None; None also where it is not there."""
        try:
            return owner_problem(self.folder)
        except FileNotFoundError:
            return None

    def problem(self, path: Path) -> str | None:
        """Why a library in this folder must not be opened, or None.

        Raises:
            OSError: it cannot be looked at.
        """
        if not path.is_file():
            return "it is not there"
        try:
            with _digest_path(path).open("rb") as file:
                expected = file.read(_DIGEST_BYTES + 1)
        except FileNotFoundError:
            return "it has no digest beside it"
        if reason := owner_problem(path):
            return reason
        if file_digest(path).encode() != expected:
            return "it is damaged: its digest is another"
        return None

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the key's lock; waits for another process that builds the same library.

        Raises:
            OSError: the folder cannot be made or written.
        """
        from filelock import Timeout

        lock = self._lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("Waiting for another process that compiles the same model library.")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def workspace(self, key: str) -> Iterator[Path]:
        """An empty folder to build in, removed afterwards; to be used under the key's lock.

        Raises:
            OSError: the folder cannot be made.
        """
        parent = self._work(key)
        # We hold the lock, so whatever is here belongs to a build that died.
        shutil.rmtree(parent, ignore_errors=True)
        parent.mkdir(parents=True, exist_ok=True)
        try:
            # A name of its own: a compiler that outlived its killed parent must not write here.
            yield Path(tempfile.mkdtemp(dir=parent))
        finally:
            shutil.rmtree(parent, ignore_errors=True)

    def publish(self, built: Path, key: str) -> Path:
        """Move a finished library to its place, on disk before it is seen there.

        A process that dies between the two files leaves a digest of another library, which is
        then compiled again.

        Raises:
            OSError: the file cannot be written.
        """
        path = self.path(key)
        built.chmod(OWNER_ONLY_FILE)
        digest = _digest_path(built)
        digest.write_text(file_digest(built), encoding="ascii")
        digest.chmod(OWNER_ONLY_FILE)
        for file, place in ((digest, _digest_path(path)), (built, path)):
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
            file.replace(place)
        return path

    def sweep(self) -> None:
        """Remove what dead builds left: work folders, and digests of what is not there.

        Nothing is touched whose lock is held. What cannot be removed stays.
        """
        from filelock import Timeout

        for folder in self._listed("building"):
            with contextlib.suppress(OSError, Timeout), self._lock(folder.name).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        for path in self._listed():
            library = path.with_suffix("")
            if path.suffix != DIGEST_SUFFIX or library.exists():
                continue
            with contextlib.suppress(OSError, Timeout), self._lock(library.stem).acquire(timeout=0):
                if not library.exists():
                    path.unlink()

    def _listed(self, name: str = "") -> list[Path]:
        try:
            return sorted((self.folder / name).iterdir())
        except OSError:  # It is not there yet, or not to be read.
            return []

    def _work(self, key: str) -> Path:
        return self.folder / "building" / key

    def _lock(self, key: str) -> FileLock:
        from filelock import FileLock  # not needed for a library that is there

        locks = self.folder / "locks"
        # The folders around it too, where they are made here: who may write those may replace it.
        for folder in reversed((self.folder, *self.folder.parents)):
            if not folder.exists():
                folder.mkdir(exist_ok=True, mode=OWNER_ONLY_FOLDER)
        locks.mkdir(exist_ok=True, mode=OWNER_ONLY_FOLDER)
        return FileLock(locks / f"{key}.lock")


def _digest_path(library: Path) -> Path:
    return library.with_name(library.name + DIGEST_SUFFIX)
