"""The folder that converted weights are written to, so that it never holds half a model.

Shards are written into a hidden folder inside it and renamed into place when all are complete, to
names that the folder does not have yet. Then the manifest is renamed into place, which switches
from the old weights to the new ones at once; the old shards are deleted last. Whatever stops this
in between, the folder has its old weights, or none.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlc_llm.errors import ConversionError
from mlc_llm.files import write_atomically
from mlc_llm.weights.manifest import MANIFEST_FILE, OLDER_MANIFEST_FILE, Manifest
from mlc_llm.weights.paths import is_folder
from mlc_llm.weights.scratch import sweep

STAGING_FOLDER = ".convert_weight"
LOCK_FILE = ".convert_weight.lock"
SHARD_PREFIX = "params_shard_"

_SHARD = re.compile(rf"{SHARD_PREFIX}(g\d+_)?\d+\.bin")


class WeightOutput:
    """A folder that one conversion at a time writes weights to; made by :func:`open_output`.

    Attributes:
        folder: the folder.
        staging: an empty folder inside it, for shards named ``params_shard_<n>.bin``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging = folder / STAGING_FOLDER

    def commit(self, manifest: Manifest) -> None:
        """Put the staged shards into place, and their manifest in place of any older one.

        Args:
            manifest: describes the shards by their names in :attr:`staging`.
        """
        names = self._free_names(manifest)
        committed = _renamed(manifest, names)
        path, data = self.folder / MANIFEST_FILE, committed.dump()
        try:
            for shard, name in zip(manifest.shards, names, strict=True):
                (self.staging / shard.file).replace(self.folder / name)
            write_atomically(path, data)
        except BaseException:
            # It may have come just after the switch; then the new shards are in use.
            if not path.is_file() or path.read_bytes() != data:
                for name in names:
                    (self.folder / name).unlink(missing_ok=True)
            raise
        self._remove_older(set(names))

    def _remove_older(self, kept: set[str]) -> None:
        """Delete the older manifest and every shard that is not to be kept."""
        old = [path for path in self.folder.iterdir() if _SHARD.fullmatch(path.name)]
        for path in (self.folder / OLDER_MANIFEST_FILE, *old):
            # Where a file in use cannot be deleted it stays, and the next conversion tries again.
            if path.name not in kept:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def _free_names(self, manifest: Manifest) -> list[str]:
        """Names for the shards, none of which the folder has."""
        for generation in itertools.count():
            prefix = SHARD_PREFIX + (f"g{generation}_" if generation else "")
            names = [f"{prefix}{index}.bin" for index in range(len(manifest.shards))]
            if not any((self.folder / name).exists() for name in names):
                return names
        raise AssertionError("unreachable: the generations never end")


def require_room(folder: Path, nbytes: int) -> None:
    """Raise ConversionError unless the disk of a folder has room for ``nbytes`` bytes."""
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise ConversionError(
            f"The weights need {_size(nbytes)} and the disk of {folder} has {_size(free)} "
            "left. Free some space or choose another folder.",
            code="disk-full",
        )


def _renamed(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """The manifest of the same shards under other names."""
    shards = []
    for shard, name in zip(manifest.shards, names, strict=True):
        tensors = tuple(replace(tensor, shard=name) for tensor in shard.tensors)
        shards.append(replace(shard, file=name, tensors=tensors))
    return Manifest(tuple(shards), manifest.metadata)


@contextlib.contextmanager
def open_output(folder: Path) -> Iterator[WeightOutput]:
    """Take a folder for one conversion; make it if need be.

    When the context is left without :meth:`WeightOutput.commit`, the folder is as it was before;
    if it was made here, it is gone.

    Raises:
        ConversionError: another conversion has the folder, it cannot be written to, or the disk
            is full.
    """
    made: list[Path] = []
    try:
        with contextlib.ExitStack() as stack:
            made = _make_folders(folder)
            # Undone last: after the lock's file is gone, the folders that were made are empty.
            stack.callback(_remove_empty, made)
            stack.enter_context(_locked(folder))
            output = WeightOutput(folder)
            _sweep(output)
            output.staging.mkdir()
            stack.callback(shutil.rmtree, output.staging, ignore_errors=True)
            yield output
    except OSError as error:
        raise _failure(folder, error) from error


def _sweep(output: WeightOutput) -> None:
    """Remove what a conversion that was killed has left; to be called under the lock."""
    shutil.rmtree(output.staging, ignore_errors=True)
    for path in output.folder.glob(f".{MANIFEST_FILE}.*.tmp"):
        path.unlink(missing_ok=True)
    sweep(output.folder)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return the ones that were made, the innermost first."""
    is_folder(folder, ConversionError)  # or it cannot be one
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    import filelock

    lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise ConversionError(
            f"Another conversion is writing to {folder}. Wait for it, or choose another folder.",
            code="output-busy",
        ) from None
    try:
        yield
    finally:
        if os.name == "posix":
            # While the lock is held: no other process can have locked this very file in between.
            with contextlib.suppress(OSError):
                (folder / LOCK_FILE).unlink()
        lock.release()


def _failure(folder: Path, error: OSError) -> ConversionError:
    if error.errno == errno.ENOSPC:
        return ConversionError(
            f"The disk of {folder} is full. Free some space or choose another folder.",
            code="disk-full",
        )
    if isinstance(error, FileExistsError | NotADirectoryError):
        message = f"{folder} cannot be a folder: {error.filename} is a file."
        return ConversionError(message, code="file-unwritable")
    message = f"Writing to {folder} failed: {error.strerror or error}."
    return ConversionError(message, code="file-unwritable")


def _size(nbytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.4g} GiB"
