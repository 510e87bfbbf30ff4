"""Links in a checkpoint: what is converted or copied must be the checkpoint's own.

A checkpoint was made by others, and what is made of it is often published. A link to a private file
of the user's would put that into the folder that is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.errors import ConversionError
from mlc_llm.weights.paths import is_folder, shown_name

_SHARED = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}")
"""Files that repositories of the hub's cache share, by their hash."""


def refuse_links_out(folder: Path) -> None:
    """Check that every file of a checkpoint lies in its folder, wherever links lead.

    In the cache of the Hugging Face hub, ``models--org--name/snapshots/COMMIT`` holds links to
    ``models--org--name/blobs``, and those may be links to what repositories share, ``blobs`` beside
    ``models--org--name``: these are the checkpoint's own, too. Links to folders are not followed by
    anything, and are left alone.

    Args:
        folder: the checkpoint's folder.

    Raises:
        ConversionError: a link leads out of the folder, or the folder cannot be listed.
    """
    own = Path(os.path.realpath(folder))
    for link in _links(folder):
        target = Path(os.path.realpath(link))
        if target.is_relative_to(own) or (_is_snapshot(own) and _is_blob(target, own)):
            continue
        if is_folder(target, ConversionError):
            continue
        raise ConversionError(
            f"{shown_name(link)} is a link out of the checkpoint's folder, to "
            f"{shown_name(target)}, which would be read and perhaps published. If it belongs to "
            "the checkpoint, put the file itself in the place of the link; a model in the hub's "
            "cache is named HF://org/name.",
            code="link-outside",
        )


def _is_snapshot(folder: Path) -> bool:
    """Whether a folder is one of the hub's cache by its place."""
    return folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")


def _is_blob(file: Path, snapshot: Path) -> bool:
    """Whether a file is where the hub's cache keeps the files of this snapshot."""
    repository = snapshot.parent.parent
    shared = repository.parent / "blobs" / file.parent.name
    return file.parent == repository / "blobs" or (
        file.parent == shared and _SHARED.fullmatch(f"{file.parent.name}/{file.name}") is not None
    )


def _links(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(Path(entry.path) for entry in entries if entry.is_symlink())
    except OSError as error:
        raise ConversionError(
            f"{shown_name(folder)} cannot be read: {error.strerror or error}.",
            code="file-unreadable",
        ) from None
    yield from found
