"""Git-LFS pointers: the small text files that stand where weights were not fetched."""

from __future__ import annotations

from pathlib import Path

from mlc_llm.errors import MLCError

_MAGIC = b"version https://git-lfs.github.com/spec"


def refuse_pointer(path: Path, error: type[MLCError]) -> None:
    """Raise ``error`` if the file at ``path`` is a Git-LFS pointer and not the file itself."""
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return
    raise error(
        f"{path} is a Git-LFS pointer, not the file itself: the repository was cloned without its "
        f"large files. Run `git lfs install` and then `git lfs pull` in {path.parent}."
    )
