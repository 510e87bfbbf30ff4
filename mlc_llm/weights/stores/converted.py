"""Models that were converted, once, into mlc_llm's cache.

Each is a folder ``converted/KEY/`` in the cache: a model folder, and in it ``source.json``, a JSON
object with ``source``, what it was made of as the user named it, and perhaps ``bytes``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mlc_llm.cache_root import cache_root
from mlc_llm.config import CHAT_CONFIG_FILE
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
        whole = (folder / CHAT_CONFIG_FILE).is_file()
        size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        yield KeptModel(_source(folder), Store.CONVERTED, folder, size, whole)


def _source(folder: Path) -> str:
    """What a folder was made of; its own name where that cannot be read."""
    try:
        source = json.loads((folder / SOURCE_FILE).read_bytes())["source"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return folder.name
    return source if isinstance(source, str) and source else folder.name
