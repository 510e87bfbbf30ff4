"""Files: read with errors that say what is wrong with them, and written whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mlc_llm.errors import MLCError

_LFS_POINTER = b"version https://git-lfs.github.com/spec"


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so is a Git-LFS pointer, which stands for a file not fetched.

    Args:
        head: the first 64 bytes of the file or more.
    """
    return head.startswith(_LFS_POINTER)


def refuse_lfs_pointer(path: Path, error: type[MLCError]) -> None:
    """Raise ``error`` if the file at ``path`` is a Git-LFS pointer and not the file itself."""
    with path.open("rb") as file:
        head = file.read(64)
    if is_lfs_pointer(head):
        raise error(_pointer_message(path), code="lfs-pointer")


def read_file(path: Path, error: type[MLCError]) -> bytes:
    """The content of a file.

    Raises:
        error: it cannot be read, is empty, or is a Git-LFS pointer.
    """
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise error(
            f"{path} cannot be read: {failure.strerror or failure}.", code="file-unreadable"
        ) from None
    if is_lfs_pointer(data):
        raise error(_pointer_message(path), code="lfs-pointer")
    if not data.strip():
        raise error(f"{path} is empty. Fetch it again.", code="file-empty")
    return data


def parse_json_object(data: bytes, path: Path, error: type[MLCError]) -> dict[str, Any]:
    """The JSON object that the content of a file is.

    Raises:
        error: it is not JSON, or another value.
    """
    try:
        parsed = json.loads(data)
    except ValueError as failure:  # not UTF-8, not JSON, or a number of thousands of digits
        raise error(f"{path} is not valid JSON: {failure}.", code="json-malformed") from None
    except RecursionError:
        raise error(
            f"{path} is not valid JSON: it is nested too deeply.", code="json-malformed"
        ) from None
    if not isinstance(parsed, dict):
        raise error(
            f"{path} holds a {type(parsed).__name__}, not a JSON object.", code="json-malformed"
        )
    return parsed


def read_json_object(path: Path, error: type[MLCError]) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        error: the file cannot be read, is empty or a Git-LFS pointer, or holds something else.
    """
    return parse_json_object(read_file(path, error), path, error)


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that it has its old content or the new one, whatever happens.

    Args:
        path: the file.
        data: its new content.
        durable: as :func:`atomic_file` takes it.
    """
    with atomic_file(path, durable=durable) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, *, durable: bool = True, private: bool = False) -> Iterator[BinaryIO]:
    """:func:`write_atomically` for what is written part by part.

    Args:
        path: the file that is written.
        durable: whether it is on the disk before it takes its place, so that it also survives a
            loss of power. Caches need not be.
        private: whether only the user may read it.

    Yields:
        A temporary file beside ``path``. It takes its place at the end of the ``with`` block; an
        exception in the block leaves ``path`` as it was. Unless the process is killed, no temporary
        file stays behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    mode = 0o600 if private else 0o666
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _pointer_message(path: Path) -> str:
    return (
        f"{path} is a Git-LFS pointer, not the file itself: the repository was cloned without its "
        f"large files. Run `git lfs install` and then `git lfs pull` in {path.parent}."
    )
