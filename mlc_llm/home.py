"""Paths that begin with a home folder, which a process may not have: in containers, under cron."""

from __future__ import annotations

import os
from pathlib import Path

from mlc_llm.errors import MLCError


def expand_home(path: str | Path, error: type[MLCError], what: str = "The path") -> Path:
    """A path in which ``~`` and ``~user`` at its beginning are replaced by a home folder.

    Args:
        path: as a user writes it.
        error: what is raised where there is no such home folder.
        what: what the path is, for the message.

    Raises:
        error: see above.
    """
    text = os.path.expanduser(path)  # noqa: PTH111 (Path's own raises RuntimeError)
    expanded = Path(text)
    if not str(text).startswith("~"):
        # Path drops the ./ of ./~x, after which that would be a home folder to whoever reads it.
        return expanded.absolute() if str(expanded).startswith("~") else expanded
    first = expanded.parts[0]
    if first == "~":
        why = "HOME is not set, and the user of this process has no entry in the password file"
    else:
        why = f"there is no user {first[1:]!r}"
    raise error(
        f"{what} {str(path)!r} begins with a home folder that is not known: {why}. Write the "
        "whole path, or ./ before a name that begins with ~.",
        code="home-unknown",
    )
