"""A model folder in the making, which stays where its making is cut, so that it can go on.

It is ``.NAME.partial`` beside the place of the model folder ``NAME``. Only the process that holds
the lock ``.NAME.lock`` changes or removes it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.errors import ConversionError, MLCError
from mlc_llm.weights.journal import Journal
from mlc_llm.weights.paths import shown_name
from mlc_llm.weights.sizes import size_text

logger = logging.getLogger("mlc_llm")

_SUFFIX = ".partial"
_OLD_SECONDS = 14 * 24 * 3600
"""Age at which a model that was never finished is removed."""
_PASSING = frozenset({"disk-full", "file-unreadable"})
"""Codes of errors that are about the disk: the same source may be converted later."""


@contextlib.contextmanager
def sole_maker(folder: Path, timeout: float = -1) -> Iterator[None]:
    """Wait until no other process makes this model folder, and keep others waiting.

    Args:
        folder: the model folder, which need not exist; its parent must.
        timeout: for how many seconds to wait; negative for any number.

    Raises:
        ConversionError: another process still makes it.
    """
    import filelock

    lock = filelock.FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=timeout)
    except filelock.Timeout:
        raise ConversionError(
            f"{shown_name(folder)} is being made by another process. Wait for it, or stop it.",
            code="output-busy",
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """The folder in which a model folder is made, with what an earlier process left in it.

    Whoever enters is the :func:`sole_maker` of the model folder, and renames what is complete to
    its place. Where the making is cut (by a signal, a full disk, too little memory), the folder
    stays if its journal has shards. After any other error it is removed, since a second try would
    end the same way. Those of other models that no process went on with for two weeks are removed.

    Args:
        folder: the model folder.

    Raises:
        OSError: it cannot be made.
    """
    partial = folder.with_name(f".{folder.name}{_SUFFIX}")
    _sweep(folder.parent, partial)
    if partial.is_symlink() or not partial.is_dir():
        partial.unlink(missing_ok=True)
        partial.mkdir()
    try:
        yield partial
    except BaseException as error:
        done = Journal.read(partial).nbytes if _may_pass(error) else 0
        if done:
            logger.info(
                "What was converted so far (%s) is kept: the next time goes on from there.",
                size_text(done),
            )
        else:
            shutil.rmtree(partial, ignore_errors=True)
        raise


def is_partial(path: Path) -> bool:
    """Whether a folder is a model folder in the making, by its name."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def remove_partial(partial: Path) -> None:
    """Remove a model folder in the making.

    Raises:
        ConversionError: a process makes it at this moment.
        OSError: it cannot be deleted.
    """
    with sole_maker(partial.with_name(partial.name[1 : -len(_SUFFIX)]), timeout=0):
        if partial.exists():
            shutil.rmtree(partial)


def _may_pass(error: BaseException) -> bool:
    """Whether the same may succeed later."""
    if isinstance(error, MLCError):
        return error.code in _PASSING
    return isinstance(error, OSError | MemoryError) or not isinstance(error, Exception)


def _sweep(parent: Path, own: Path) -> None:
    """Remove what no process went on with for long; what cannot go stays."""
    for path in parent.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError, ConversionError):
            old = time.time() - path.lstat().st_mtime > _OLD_SECONDS
            if old and path != own and path.is_dir() and not path.is_symlink():
                remove_partial(path)
