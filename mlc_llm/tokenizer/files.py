"""Reading the files of a tokenizer, with errors that say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlc_llm.errors import TokenizerError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_file(path: Path) -> bytes:
    """Read a file of a tokenizer.

    Raises:
        TokenizerError: it cannot be read, is empty, or is a Git-LFS pointer.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path} cannot be read: {error.strerror}.") from None
    if data.startswith(_LFS_POINTER):
        raise TokenizerError(
            f"{path} is a Git-LFS pointer, not the file itself. Run `git lfs pull` in {path.parent}"
            " or download the file."
        )
    if not data.strip():
        raise TokenizerError(f"{path} is empty. Download it again.")
    return data


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a file that holds one JSON object.

    Raises:
        TokenizerError: it is not JSON, or no object.
    """
    try:
        parsed = json.loads(data)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TokenizerError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(parsed, dict):
        raise TokenizerError(f"{path} holds a {type(parsed).__name__}, not a JSON object.")
    return parsed
