"""The folder of compiled libraries: one file a key, whole or not there.

A library is built in a work folder beside its final place and moved there when it is finished. A
lock for each key, which the system releases when its holder dies, makes two processes build
once. What killed builds left is swept away by the next build.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mlc_llm.cache_root import cache_root

logger = logging.getLogger("mlc_llm")

LIBRARY_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


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

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the key's lock; waits for another process that builds the same library.

        Raises:
            OSError: the folder cannot be made or written.
        """
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
        self.sweep(keep=key)
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

        Raises:
            OSError: the file cannot be written.
        """
        with built.open("rb+") as file:
            os.fsync(file.fileno())
        path = self.path(key)
        return built.replace(path)

    def sweep(self, keep: str) -> None:
        """Remove work folders whose builder is dead: those whose lock is free.

        Args:
            keep: the key whose lock the caller holds.
        """
        work = self.folder / "building"
        for folder in sorted(work.iterdir()) if work.is_dir() else []:
            if folder.name == keep:
                continue
            with contextlib.suppress(OSError, Timeout), self._lock(folder.name).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)

    def _work(self, key: str) -> Path:
        return self.folder / "building" / key

    def _lock(self, key: str) -> FileLock:
        locks = self.folder / "locks"
        # Code is loaded from here: only the user may write.
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        locks.mkdir(exist_ok=True)
        return FileLock(locks / f"{key}.lock")
