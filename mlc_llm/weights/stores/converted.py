"""Models that were converted, once, into mlc_llm's cache.

Each is a folder ``converted/KEY/`` in the cache: a model folder, and in it ``source.json``, a JSON
object with ``source``, what it was made of as the user named it, and perhaps ``bytes``. One that is
not finished has its place beside that (:mod:`mlc_llm.weights.partial`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.cache_root import cache_root
from mlc_llm.config import CHAT_CONFIG_FILE
from mlc_llm.weights.partial import is_partial
from mlc_llm.weights.stores.kept import KeptModel, Store

SOURCE_FILE = "source.json"


def converted_root() -> Path:
    """The folder of converted models; it need not exist."""
    return cache_root() / "converted"


def converted_models() -> Iterator[KeptModel]:
    """The converted models, named by what they were made of; their sizes are those on the disk."""
    root = converted_root()
    for folder in sorted(root.glob("*")) if root.is_dir() else ():
        if folder.is_symlink() or not (folder / SOURCE_FILE).is_file():
            continue
        whole = (folder / CHAT_CONFIG_FILE).is_file() and not is_partial(folder)
        yield KeptModel(_source(folder), Store.CONVERTED, folder, _size(folder), whole)


def _size(folder: Path) -> int:
    """Bytes of a folder's files; a process that works there may remove some at this moment."""
    total = 0
    for place, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += Path(place, file).lstat().st_size
    return total


def _source(folder: Path) -> str:
    """What a folder was made of; its own name where that cannot be read."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_bytes())["source"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return folder.name
    return source if isinstance(source, str) and source else folder.name
