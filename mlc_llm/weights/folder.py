"""A model folder: the configuration, the weights and the tokenizer of one model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mlc_llm.config import CHAT_CONFIG_FILE, ModelFile
from mlc_llm.errors import ModelFolderError, ModelNotFoundError
from mlc_llm.files import refuse_lfs_pointer
from mlc_llm.home import expand_home
from mlc_llm.shown import shown as quoted
from mlc_llm.weights.manifest import MANIFEST_FILE, OLDER_MANIFEST_FILE, Manifest
from mlc_llm.weights.paths import is_file, is_folder, shown
from mlc_llm.weights.shards import Shards


class ModelFolder:
    """An opened model folder. :meth:`open` makes one; it is a context manager.

    Attributes:
        path: the folder.
        config: its ``mlc-chat-config.json``.
        manifest: what tensors it has, and where.
    """

    def __init__(self, path: Path, config: ModelFile, manifest: Manifest) -> None:
        self.path, self.config, self.manifest = path, config, manifest
        self._shards = Shards(path, manifest)

    @classmethod
    def open(cls, path: str | Path) -> ModelFolder:
        """Open the model folder at ``path``.

        Checks the configuration, the manifest, and the name and the size of every shard and
        tokenizer file, but not the checksums: see :meth:`verify`.

        Raises:
            ModelNotFoundError: there is no such folder.
            ModelFolderError: it is incomplete, malformed or inconsistent.
        """
        path = expand_home(path, ModelNotFoundError, "The model")
        if not is_folder(path, ModelNotFoundError):
            is_there = is_file(path, ModelNotFoundError)
            kind = "is a file, not a folder" if is_there else "does not exist"
            raise ModelNotFoundError(f"No model folder: {shown(path)} {kind}.")
        folder = cls(path, _read_config(path), read_manifest(path))
        folder._shards.check()
        for name in folder.config.tokenizer_files:
            if is_file(path / name, ModelFolderError):
                refuse_lfs_pointer(path / name, ModelFolderError)
        return folder

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return self.manifest.total_bytes

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """Return a tensor as a read-only array of its shape and dtype.

        It is a view of the memory-mapped shard and costs no memory, except that a tensor that is
        stored as bfloat16 is widened to its dtype float32.

        Raises:
            ModelFolderError: there is no tensor of that name, or its shard has changed.
        """
        record = self.manifest.tensors.get(name)
        if record is None:
            raise ModelFolderError(
                f"{self.path} has no tensor {quoted(name)}.", code="tensor-missing"
            )
        return self._shards.read(record)

    def forget(self, name: str) -> None:
        """Let go of the memory that reading a tensor took; it can be read again."""
        self._shards.forget(self.manifest.tensors[name])

    def verify(self, advance: Callable[[int], None] | None = None) -> None:
        """Check the MD5 checksum of every shard.

        Args:
            advance: called with the number of bytes that were read since the last call;
                ``sum(shard.nbytes for shard in manifest.shards)`` in all.

        Raises:
            ModelFolderError: a shard is missing or damaged; the message names it.
        """
        self._shards.verify(advance)

    def close(self) -> None:
        """Let go of the mapped shards, as soon as no array of them is left."""
        self._shards.close()

    def __enter__(self) -> ModelFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ModelFolder({str(self.path)!r})"


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of the folder at ``path``, under its newer or its older name.

    Raises:
        ModelFolderError: there is none, or it is malformed.
    """
    return Manifest.load(manifest_path(path))


def manifest_path(path: Path) -> Path:
    """The manifest's file in the folder at ``path``, under its newer or its older name.

    Raises:
        ModelFolderError: there is none.
    """
    for name in (MANIFEST_FILE, OLDER_MANIFEST_FILE):
        if is_file(path / name, ModelFolderError):
            return path / name
    raise ModelFolderError(
        f"{path} has no weights: neither {MANIFEST_FILE} nor {OLDER_MANIFEST_FILE}. "
        f"Make them: mlc_llm convert_weight SOURCE --quantization Q -o {path}",
        code="folder-incomplete",
    )


def _read_config(path: Path) -> ModelFile:
    file = path / CHAT_CONFIG_FILE
    if is_file(file, ModelFolderError):
        return ModelFile.load(file)
    if is_file(path / "config.json", ModelFolderError):
        raise ModelFolderError(
            f"{path} has no {CHAT_CONFIG_FILE}, but a config.json: it looks like a Hugging Face "
            "model. Convert it: mlc_llm convert_weight and mlc_llm gen_config.",
            code="model-not-converted",
        )
    raise ModelFolderError(
        f"{path} has no {CHAT_CONFIG_FILE}. "
        f"Make it: mlc_llm gen_config SOURCE --quantization Q --conv-template T -o {path}",
        code="folder-incomplete",
    )
