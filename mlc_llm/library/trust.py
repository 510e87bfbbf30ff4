"""Whether a cached library may be opened: opening one runs its code, whoever put it there."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

OWNER_ONLY_FOLDER, OWNER_ONLY_FILE = 0o700, 0o600
"""Modes of what is made here, whatever the process's umask allows to others."""

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ROOT = 0
_PIECE = 1 << 20


def owner_problem(path: Path) -> str | None:
    """Why another user could have put something at a path, or None.

    It must belong to the user of this process or to root, and neither its group nor others may
    write it. On Windows nothing is checked: the cache is in the user's profile there.

    Raises:
        OSError: it cannot be looked at.
    """
    if sys.platform == "win32":
        return None
    state = path.stat()
    user = os.geteuid()
    if state.st_uid not in (user, _ROOT):
        return f"it belongs to the user {state.st_uid}, not to you ({user}) or root"
    if state.st_mode & _OTHERS_MAY_WRITE:
        return f"others may write it (its mode is {stat.S_IMODE(state.st_mode):o})"
    return None


def ownership(path: Path) -> str:
    """Whose a path is and its mode, for a message; nothing where the system does not say."""
    try:
        state = path.stat()
    except OSError:
        return ""
    if sys.platform == "win32":
        return ""
    mode = stat.S_IMODE(state.st_mode)
    return (
        f"{path} belongs to the user {state.st_uid}, you are {os.geteuid()}; its mode is {mode:o}"
    )


def file_digest(path: Path) -> str:
    """A digest of a file's content, for errors of disks and copies.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
