"""The source interface: what a conversion reads of a checkpoint, whatever format it has.

A format is a plugin of the group ``mlc_llm.sources``: a :class:`SourceFormat`. It says which files
and folders are of its kind, and opens one as a :class:`Source`: tensors under the names that the
model's files have on the Hugging Face hub, a config in the form of its ``config.json``, and the
files of its tokenizer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Protocol

from mlc_llm.plugin.architecture import Architecture
from mlc_llm.plugin.scheme import Scheme
from mlc_llm.version import INTERFACE_VERSION

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Rows = slice | EllipsisType
"""Which rows of a tensor are read: consecutive ones, as a slice along its first axis, or ``...``
for all. As in NumPy, what a slice has beyond the last row is left out."""


@dataclass(frozen=True)
class Codes:
    """Some rows of a matrix that is stored in integer codes.

    Args:
        codes: the code of each weight (rows, columns), uint8.
        factors: what else the tensor's scheme stores, in its order: scales (rows, groups) and what
            stands beside them, each of the dtype that the scheme has for it.
    """

    codes: npt.NDArray[np.uint8]
    factors: tuple[npt.NDArray[Any], ...]


class SourceTensor(ABC):
    """One tensor of a checkpoint.

    Attributes:
        name: its name in the checkpoint.
        shape: its shape.
        dtype: how the file stores it, in the format's own word, such as ``BF16`` or ``Q4_K``.
        file: the file that it is in, for messages.
        nbytes: bytes of the file that it takes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path
    nbytes: int

    @property
    @abstractmethod
    def scheme(self) -> Scheme | None:
        """How a matrix of this type is kept without loss; None where it must be quantised."""

    @abstractmethod
    def require_readable(self) -> None:
        """Raise ConversionError unless :meth:`read` can read the dtype."""

    @abstractmethod
    def read(self, rows: Rows = ...) -> npt.NDArray[np.float32]:
        """Return the values of some rows, or of all, as float32.

        The array is the caller's to change. Where the file is mapped, its size must be looked at
        first: a mapped file that another program has cut short would end the process.

        Raises:
            ConversionError: the dtype cannot be read, or the file has changed since it was opened.
        """

    def read_codes(self, rows: Rows = ...) -> Codes:
        """Return some rows of a matrix whose :attr:`scheme` has integer codes, as they are stored.

        Raises:
            ConversionError: as :meth:`read`.
        """
        raise NotImplementedError(f"{self.name} is stored in {self.dtype}, without codes")


class Source(ABC):
    """A checkpoint that was opened; its tensors' values are read later.

    It is not closed: whatever it keeps open must go when it is not used any more.

    Attributes:
        path: its file or folder, for messages.
        config: what a ``config.json`` says, ``model_type`` among it.
        generation_config: what a ``generation_config.json`` says; empty where there is none.
        chat_template: the model's own chat template in Jinja, which is among its files; or None.
        keeps_types: whether its tensors stay as they are stored, unless another quantisation is
            asked for.
    """

    path: Path
    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    chat_template: str | None
    keeps_types: bool = False

    @abstractmethod
    def tensors(self) -> Mapping[str, SourceTensor]:
        """The tensors by their names in the checkpoint, without their values.

        Raises:
            ConversionError: a file is missing or damaged, or has a type that is not read.
        """

    @abstractmethod
    def tokenizer_files(self) -> Mapping[str, bytes]:
        """The files of tokenizer and chat template by the names that a model folder has for them.

        Raises:
            ConversionError: one cannot be read.
            TokenizerError: the tokenizer is of a kind that cannot be written as files.
        """


class Architectures(Protocol):
    """Where a format looks architectures up: the registry of plugins."""

    def names(self, kind: str) -> list[str]:
        """The names of a kind's plugins, here ``"architecture"``."""

    def architecture(self, name: str) -> Architecture:
        """The architecture of that name; raises PluginError when it cannot be used."""


class SourceFormat(ABC):
    """A format of checkpoints. Its entry point in ``mlc_llm.sources`` names an instance or a class.

    Attributes:
        name: the entry point's name.
        order: when it is asked; lower is earlier. The built-in ones have 10 to 30.
        description: what it reads, in a few words for messages.
    """

    interface_version: int = INTERFACE_VERSION
    name: str
    order: int = 50
    description: str

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether a file or folder is of this format, by its name and its first bytes.

        It may be damaged: then :meth:`open` says how.
        """

    @abstractmethod
    def open(self, path: Path, architectures: Architectures) -> Source:
        """Open what :meth:`recognizes` has recognised.

        Args:
            path: the file or folder.
            architectures: for formats whose names of tensors depend on the architecture.

        Raises:
            ConversionError: it is incomplete, damaged, or of a kind that is not read.
        """
