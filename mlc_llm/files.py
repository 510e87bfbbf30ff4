"""Files: read with errors that say what is wrong with them, and written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mlc_llm.errors import MLCError

_LFS_POINTER = b"version https://git-lfs.github.com/spec"

_LEAVES = frozenset({str, int, float, bool, type(None)})
_LEVELS = frozenset({dict, list})
"""JSON's types, without and with levels. A tokenizer has a hundred thousand values, and asking each
whether it is a mapping takes ten times as long."""

MOST_NESTED = 100
"""Levels of lists and objects that a JSON file may have; real ones have about ten."""

_YOUNG_SECONDS = 60
"""Age at which a temporary file that no process has locked counts as left behind."""

_MIB = 2**20
_CONFIG, _TOKENIZER, _LIST = 4 * _MIB, 128 * _MIB, 64 * _MIB
_MOST_BYTES = {
    "config.json": _CONFIG,
    "generation_config.json": _CONFIG,
    "mlc-chat-config.json": _CONFIG,
    "special_tokens_map.json": _CONFIG,
    "added_tokens.json": _CONFIG,
    "chat_template.jinja": _CONFIG,
    "chat_template.json": _CONFIG,
    "tokenizer_config.json": 16 * _MIB,
    "tokenizer.json": _TOKENIZER,
    "tokenizer.model": _TOKENIZER,
}
"""Bytes that files of these names may have. Among published models the largest ``config.json`` has
some 100 KB, ``tokenizer_config.json`` 1.2 MB, ``tokenizer.json`` 33 MB and ``tokenizer.model`` 5 MB
(Gemma 3). All other files may have as many as lists of weights, of which the largest have 9 MB."""


def is_lfs_pointer(head: bytes) -> bool:
    """Whether a file that begins so is a Git-LFS pointer, which stands for a file not fetched.

    Args:
        head: the first 64 bytes of the file or more.
    """
    return head.startswith(_LFS_POINTER)


def refuse_lfs_pointer(path: Path, error: type[MLCError]) -> None:
    """Raise ``error`` if a file cannot be read, or is a Git-LFS pointer and not the file itself."""
    if is_lfs_pointer(_read(path, 64, error)):
        raise error(_pointer_message(path), code="lfs-pointer")


def is_file(path: Path, error: type[MLCError]) -> bool:
    """Whether there is a file of that name.

    Raises:
        error: that cannot be seen, as in a folder that may not be searched.
    """
    try:
        return path.is_file()
    except OSError as failure:
        raise error(_unreadable_message(path, failure), code="file-unreadable") from None


def read_file(path: Path, error: type[MLCError]) -> bytes:
    """The content of a file.

    Raises:
        error: it cannot be read, is empty, is a Git-LFS pointer, or is larger than any file of its
            kind.
    """
    most = _MOST_BYTES.get(path.name, _LIST)
    data = _read(path, most + 1, error)
    if is_lfs_pointer(data):
        raise error(_pointer_message(path), code="lfs-pointer")
    if len(data) > most:
        raise error(
            f"{path} is larger than the {most // _MIB} MiB that a file of its kind may have. It is "
            "not what its name says, or damaged. Fetch it again.",
            code="file-too-large",
        )
    if not data.strip():
        raise error(f"{path} is empty. Fetch it again.", code="file-empty")
    return data


def parse_json_object(data: bytes, path: Path, error: type[MLCError]) -> dict[str, Any]:
    """The JSON object that the content of a file is.

    Raises:
        error: it is not JSON, is another value, or is nested too deeply.
    """
    try:
        parsed = json.loads(data)
    except ValueError as failure:  # not UTF-8, not JSON, or a number of thousands of digits
        raise error(f"{path} is not valid JSON: {failure}.", code="json-malformed") from None
    except RecursionError:
        raise error(_nested_message(path), code="json-malformed") from None
    if not isinstance(parsed, dict):
        raise error(
            f"{path} holds a {type(parsed).__name__}, not a JSON object.", code="json-malformed"
        )
    if is_nested_deeper(parsed):
        raise error(_nested_message(path), code="json-malformed")
    return parsed


def is_nested_deeper(value: Any, most: int = MOST_NESTED) -> bool:
    """Whether a list or an object has more than ``most`` levels of them; one in itself has."""
    level: Iterable[Any] = [value]
    for _ in range(most):
        level = {
            id(inner): inner  # once, for what holds itself in several places
            for outer in level
            for inner in (outer if type(outer) is list else _values(outer))
            if (kind := type(inner)) not in _LEAVES
            and (kind in _LEVELS or isinstance(inner, Mapping | tuple))
        }.values()
        if not level:
            return False
    return True


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container


def json_in_utf8(data: bytes) -> bytes:
    """A JSON file's content in UTF-8 and without a byte order mark, as strict readers want it.

    Args:
        data: what :func:`parse_json_object` could read, in UTF-8, UTF-16 or UTF-32.
    """
    encoding = json.detect_encoding(data)
    if encoding == "utf-8":
        return data
    return data.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")


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
        file stays behind; that of a killed one goes when the same file is written again.
    """
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    mode = 0o600 if private else 0o666
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            _lock(file)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sweep(path: Path) -> None:
    """Remove the temporary files of ``path`` that killed processes left; what cannot go stays."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name) and _is_left_behind(Path(entry.path)):
                Path(entry.path).unlink(missing_ok=True)


def _is_left_behind(temporary: Path) -> bool:
    """Whether no process writes a temporary file any more; a young one may have no lock yet."""
    if time.time() - temporary.stat().st_mtime < _YOUNG_SECONDS:
        return False
    with temporary.open("rb") as file:
        return _lock(file)


def _lock(file: BinaryIO) -> bool:
    """Take the lock of a file until it is closed; whether it was free. On Windows, which has
    no such locks, a file that is open cannot be removed."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # Another has it, or the file system has no locks.
        return False
    return True


def _read(path: Path, most: int, error: type[MLCError]) -> bytes:
    """The first bytes of a file."""
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as failure:
        raise error(_unreadable_message(path, failure), code="file-unreadable") from None


def _nested_message(path: Path) -> str:
    return (
        f"{path} is nested too deeply: JSON files may have {MOST_NESTED} levels of lists and "
        "objects. It is damaged, or not what its name says. Fetch it again."
    )


def _unreadable_message(path: Path, failure: OSError) -> str:
    remedy = " Change its permissions." if isinstance(failure, PermissionError) else ""
    return f"{path} cannot be read: {failure.strerror or failure}.{remedy}"


def _pointer_message(path: Path) -> str:
    return (
        f"{path} is a Git-LFS pointer, not the file itself: the repository was cloned without its "
        f"large files. Run `git lfs install` and then `git lfs pull` in {path.parent}."
    )
