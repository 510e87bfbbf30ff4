"""Remembering which downloads were verified, so that their weights are read once only.

What is remembered is the state of the files that were verified. One that was fetched again, or
changed in any other way, is verified again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from mlc_llm.cache_root import cache_root
from mlc_llm.files import write_atomically
from mlc_llm.weights.folder import manifest_path
from mlc_llm.weights.manifest import Manifest
from mlc_llm.weights.shards import Shards

logger = logging.getLogger("mlc_llm")


def verify_once(name: str, folder: Path) -> None:
    """Verify the checksums of a model folder, unless they were right and no file has changed.

    Args:
        name: what the folder is remembered by, for a name of a file.
        folder: the model folder.

    Raises:
        ModelFolderError: the manifest is malformed, or a shard is missing or damaged.
    """
    file = manifest_path(folder)
    manifest = Manifest.load(file)
    stamp, state = cache_root() / "verified" / name, _state(folder, file, manifest)
    if state is not None and _remembered(stamp) == state:
        return
    Shards(folder, manifest).verify()
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(stamp, json.dumps(state).encode(), durable=False)
    except OSError as error:
        logger.debug("cannot remember that %s was verified: %s", name, error)


def _state(folder: Path, file: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Sizes, times and digests of a model folder's files; None where one is not there."""
    try:
        shards = {
            shard.file: [*_size_and_times(folder / shard.file), shard.md5]
            for shard in manifest.shards
        }
        return {"manifest": hashlib.sha256(file.read_bytes()).hexdigest(), "shards": shards}
    except OSError:
        return None


def _size_and_times(file: Path) -> tuple[int, int, int]:
    # The time of the last change of status, too: that of the content can be set by anyone.
    status = file.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _remembered(stamp: Path) -> Any:
    """What a stamp holds; None where there is none, or one of an older version."""
    try:
        return json.loads(stamp.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
