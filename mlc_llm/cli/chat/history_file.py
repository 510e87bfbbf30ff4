"""What was typed in earlier chats, in a file of the user's.

One JSON string a line, the oldest first. Lines that are none are passed over, so a damaged file
loses only what is damaged.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from mlc_llm.files import atomic_file

VARIABLE = "MLC_LLM_HISTORY"
"""The environment variable that names the file; set to nothing, no history is kept."""

ENTRIES = 1000
"""Number of entries that are offered, and kept when the file has grown."""

LARGEST = 1 << 20
"""Bytes of the file that are read, from its end. A larger one is cut down."""


def history_path() -> Path | None:
    """Where the history is kept: ``$MLC_LLM_HISTORY``, or in the user's state folder.

    None when the variable is set to nothing, or there is no home folder. One that is named and not
    known stays as it is.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        # As the shell does it; pathlib raises where there is no such home folder.
        return Path(os.path.expanduser(named.strip())) if named.strip() else None  # noqa: PTH111
    import platformdirs

    try:
        return platformdirs.user_state_path("mlc_llm") / "chat_history.jsonl"
    except RuntimeError:
        return None


class HistoryFile:
    """A history that several chats may add to at a time.

    Args:
        path: the file; it and its folder are made, for the user alone.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if str(path).startswith("~"):
            raise OSError(None, "its home folder is not known", str(path))
        self._path = Path(os.path.realpath(path))
        if self._path.exists() and not self._path.is_file():
            raise OSError(None, "it is not a file", str(path))
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._end_last_line()

    def load(self) -> list[str]:
        """The entries, the oldest first; a file that has grown too large is cut down."""
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LARGEST))
            lines = file.read().split(b"\n")
        entries = [entry for line in lines if (entry := _entry(line)) is not None][-ENTRIES:]
        if size > LARGEST:
            self._replace(entries)
        return entries

    def append(self, entry: str) -> None:
        """Add an entry. What cannot be written is lost: a chat does not end for that."""
        with contextlib.suppress(OSError):
            file = self._open()
            try:
                os.write(file, _line(entry))
            finally:
                os.close(file)

    def _end_last_line(self) -> None:
        """Make the file if need be; what is added to it must not join a line that was cut off."""
        added = self._open()
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 1))
                if file.read(1) not in (b"", b"\n"):
                    os.write(added, b"\n")
        finally:
            os.close(added)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _replace(self, entries: list[str]) -> None:
        with (
            contextlib.suppress(OSError),
            atomic_file(self._path, durable=False, private=True) as file,
        ):
            file.writelines(map(_line, entries))


def _line(entry: str) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _entry(line: bytes) -> str | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, str) else None
