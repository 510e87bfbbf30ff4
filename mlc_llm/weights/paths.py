"""Paths and names that come from a file or from a user: some are none that a system can have."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from mlc_llm.errors import MLCError

_SHOWN = 200
"""Characters of a path or a name that an error message shows."""
_LISTED = 5
"""How many names an error message lists."""


def exists(path: Path, error: type[MLCError]) -> bool:
    """Whether anything is at ``path``, links followed; raises as :func:`is_file` does."""
    return _mode(path, error) != 0


def is_file(path: Path, error: type[MLCError]) -> bool:
    """Whether a file is at ``path``.

    Raises:
        error: the path cannot be one, or the system does not say what is there.
    """
    return stat.S_ISREG(_mode(path, error))


def is_folder(path: Path, error: type[MLCError]) -> bool:
    """Whether a folder is at ``path``; raises as :func:`is_file` does."""
    return stat.S_ISDIR(_mode(path, error))


def shown(path: str | os.PathLike[str]) -> str:
    """A path or a name for an error message: cut short, and with escapes for odd characters."""
    text = os.fspath(path)
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]} ... {text[-_SHOWN // 4 :]}"
    return text if text.isprintable() else repr(text)


def listed(names: Sequence[str]) -> str:
    """Some of these names for an error message, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more


def _mode(path: Path, error: type[MLCError]) -> int:
    """The mode of what is there, links followed; 0 for nothing."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except ValueError as failure:  # a NUL, or half of a surrogate pair
        reason = "half of a character" if isinstance(failure, UnicodeError) else "the character NUL"
        raise error(
            f"{shown(path)} cannot be a path: it holds {reason}.", code="path-invalid"
        ) from None
    except PermissionError:
        raise error(
            f"{shown(path)} cannot be looked at: permission denied. Allow this user to read the "
            "file, and to enter the folders that it is in.",
            code="file-unreadable",
        ) from None
    except OSError as failure:
        reason = failure.strerror or str(failure)
        if failure.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise error(f"{shown(path)} cannot be a path: {reason}.", code="path-invalid") from None
        raise error(
            f"{shown(path)} cannot be looked at: {reason}.", code="file-unreadable"
        ) from None
