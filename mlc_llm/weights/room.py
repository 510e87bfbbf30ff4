"""Whether there is room for a model, on the disk and in memory, before it is downloaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlc_llm.errors import HubError
from mlc_llm.weights.sizes import size_text


def require_disk(what: str, nbytes: int, folder: Path, variable: str) -> None:
    """Check that a download fits on the disk.

    Args:
        what: what is downloaded, for the message.
        nbytes: bytes that are still missing.
        folder: where they go; it need not exist yet.
        variable: the environment variable that moves the folder.

    Raises:
        HubError: it does not fit.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if nbytes > free:
        raise HubError(
            f"{what} does not fit on the disk: {size_text(nbytes)} must be downloaded, and "
            f"{size_text(free)} are free for {folder}. Free some space, or set {variable} to a "
            "folder on another disk.",
            code="disk-full",
        )


def memory_problem(what: str, nbytes: int, memory: int | None) -> str:
    """Why a model cannot run on this machine; empty where it may.

    Args:
        what: the model, for the message.
        nbytes: the least that its weights take in memory.
        memory: bytes of memory that the machine has; None where that is not known.
    """
    if memory is None or nbytes <= memory:
        return ""
    return (
        f"The weights of {what} take at least {size_text(nbytes)}, and this machine has "
        f"{size_text(memory)} of memory."
    )
