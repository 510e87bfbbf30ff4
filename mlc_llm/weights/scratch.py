"""A folder for work in a model folder: what is made there is moved to its place when it is whole.

A process that is killed leaves its folder behind. The lock in it, which the system then releases,
tells the next one that it may be removed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

SCRATCH_PREFIX = ".mlc-llm-"
"""What the names of these folders begin with."""
_LOCK = ".lock"
_UNLOCKED_SECONDS = 60
"""Age of a folder without a lock that counts as left behind: a younger one may get its lock."""


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder in ``parent``, removed at the end; those of killed processes go before.

    Raises:
        OSError: it cannot be made.
    """
    import filelock

    sweep(parent)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=parent) as name,
        filelock.FileLock(Path(name) / _LOCK),
    ):
        yield Path(name)


def sweep(parent: Path) -> None:
    """Remove the work folders in ``parent`` that killed processes left; what cannot go stays."""
    for folder in parent.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if _is_left_behind(folder):
                shutil.rmtree(folder)


def _is_left_behind(folder: Path) -> bool:
    import filelock

    if folder.is_symlink() or not folder.is_dir():
        return False
    if not (folder / _LOCK).exists():
        return time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS
    try:
        with filelock.FileLock(folder / _LOCK, timeout=0):
            return True
    except filelock.Timeout:
        return False
