"""Which model keys and values belong to: its name, its library and its weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlc_llm.errors import SavedChatError


@dataclass(frozen=True)
class Identity:
    """A model, as a file of keys and values names it.

    Args:
        model: its name, for people.
        library: SHA-256 of the library's file, in hexadecimal digits.
        weights: SHA-256 of the folder's manifest, which has the checksums of the weights.
    """

    model: str
    library: str
    weights: str


class ModelFiles:
    """The files that a loaded model came from. They are read when its identity is first asked for.

    Args:
        model: the model's name, for people.
        library: the library's file.
        manifest: the manifest of the model's folder.
    """

    def __init__(self, model: str, library: Path, manifest: Path) -> None:
        self._model = model
        self._files = {path.absolute(): _state(path) for path in (library, manifest)}

    @cached_property
    def identity(self) -> Identity:
        """The model that was loaded.

        Raises:
            SavedChatError: a file cannot be read, or has changed since the model was loaded.
        """
        return Identity(self._model, *(_digest(path, state) for path, state in self._files.items()))


_State = tuple[int, int]


def _state(path: Path) -> _State:
    """Modification time and size, which change when a file is written again."""
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _digest(path: Path, loaded: _State) -> str:
    """SHA-256 of a file that is as it was when the model was loaded."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        changed = _state(path) != loaded
    except OSError as error:
        raise SavedChatError(
            f"{path}, from which the model was loaded, cannot be read: "
            f"{error.strerror or error}. Load the model again.",
            code="file-unreadable",
        ) from None
    if changed:
        raise SavedChatError(
            f"{path} has changed since the model was loaded from it. Load the model again.",
            code="model-changed",
        )
    return digest
