"""A folder to build a library in, beside the place where the library will stand.

The folder is on the same disk, so that the finished library is moved and not copied. A lock in it,
which the system releases when its holder dies, tells a folder that is in use from what a killed
build left: that is removed by the next build in the same place.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX, _LOCK = ".mlc-llm-", "lock"


@contextlib.contextmanager
def workspace(place: Path) -> Iterator[Path]:
    """A new folder in ``place``, removed afterwards with all that is in it.

    Raises:
        OSError: it cannot be made.
    """
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place)
    folder, lock = _locked_folder(place)
    try:
        yield folder
    finally:
        # Removed while it is locked, or another process would sweep it at the same time.
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        # Windows keeps a file that is open.
        shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(place: Path) -> tuple[Path, FileLock]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        lock = FileLock(folder / _LOCK)
        try:
            lock.acquire()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if folder.is_dir():
            return folder, lock
        # It was swept away before it was locked.
        lock.release()


def _sweep(place: Path) -> None:
    """Remove the folders of builds that died."""
    for folder in place.glob(f"{_PREFIX}*"):
        if not folder.is_dir() or folder.is_symlink():
            continue
        with contextlib.suppress(OSError, Timeout), FileLock(folder / _LOCK).acquire(timeout=0):
            shutil.rmtree(folder, ignore_errors=True)
