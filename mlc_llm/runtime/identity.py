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
        self._library, self._manifest = library.absolute(), manifest.absolute()
        self._loaded = self._states()

    @cached_property
    def identity(self) -> Identity:
        """The model that was loaded.

        Raises:
            SavedChatError: a file cannot be read, or has changed since the model was loaded.
        """
        try:
            digests = _digest(self._library), _digest(self._manifest)
            changed = self._states() != self._loaded
        except OSError as error:
            raise SavedChatError(
                f"{error.filename}, from which the model was loaded, cannot be read: "
                f"{error.strerror or error}. Load the model again."
            ) from None
        if changed:
            raise SavedChatError(
                f"The model has changed since it was loaded: see {self._library} and "
                f"{self._manifest}. Load it again."
            )
        return Identity(self._model, *digests)

    def _states(self) -> list[tuple[int, int]]:
        """What changes when a file is written anew."""
        states = [path.stat() for path in (self._library, self._manifest)]
        return [(state.st_mtime_ns, state.st_size) for state in states]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
