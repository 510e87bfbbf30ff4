"""The header of a file of keys and values: what it says, and reading it strictly.

The file's layout is safetensors': the header's length as a little-endian uint64; the header, a JSON
object of ``{name: {"dtype", "shape", "data_offsets": [begin, end]}}`` with texts in
``__metadata__``; then the tensors' bytes, row-major and little-endian, without gaps. See
https://huggingface.co/docs/safetensors. docs/formats.md lists the tensors and the texts.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from mlc_llm.errors import SavedChatError
from mlc_llm.runtime.identity import Identity
from mlc_llm.runtime.metadata import KVCacheGeometry
from mlc_llm.version import __version__

FORMAT = "mlc_llm KV cache"
VERSION = "1"

TOKENS, CHECKSUMS, PHASES = "tokens", "checksums", "phases"

_METADATA = "__metadata__"
_BEGIN = json.dumps({_METADATA: {"format": FORMAT}}, separators=(",", ":"))[:-2].encode()
_LONGEST = 1 << 20
"""Bytes of a header; one of a thousand layers has a tenth of it."""

_ALIGNMENT = 8
_DTYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}
_BYTES = {"U8": 1, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file.

    Args:
        name: its name.
        dtype: its dtype, as safetensors names it.
        shape: its shape.
        begin: where its bytes begin, counted from the end of the header.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int

    @property
    def end(self) -> int:
        """Where they end."""
        return self.begin + prod(self.shape) * _BYTES[self.dtype]

    @property
    def entry(self) -> dict[str, Any]:
        """What the header says of it."""
        offsets = [self.begin, self.end]
        return {"dtype": self.dtype, "shape": [*self.shape], "data_offsets": offsets}


def stored_tensors(geometry: KVCacheGeometry, tokens: int) -> dict[str, StoredTensor]:
    """The tensors of a file by name, in their order in it; each is aligned to its dtype.

    Args:
        geometry: the shape of the pages.
        tokens: how many tokens it has.
    """
    pages = -(-tokens // geometry.page_size)
    dtype = _DTYPES[geometry.dtype]
    wanted: list[tuple[str, str, tuple[int, ...]]] = [(TOKENS, "I32", (tokens,))]
    wanted += [
        (f"pages.{n}", dtype, (pages, *shape)) for n, shape in enumerate(geometry.page_shapes)
    ]
    wanted += [(CHECKSUMS, "U32", (len(wanted) + 1,)), (PHASES, "U8", (tokens,))]
    tensors, end = {}, 0
    for name, kind, shape in wanted:
        tensors[name] = StoredTensor(name, kind, shape, end)
        end = tensors[name].end
    return tensors


def layout_text(geometry: KVCacheGeometry) -> str:
    """What the pages look like, as JSON: equal texts mean equal pages."""
    layers = [[layer.kv_heads, layer.key_size, layer.value_size] for layer in geometry.own]
    layout = {"dtype": geometry.dtype, "layers": layers, "page_size": geometry.page_size}
    return json.dumps(layout, separators=(",", ":"))


def header_bytes(tensors: Mapping[str, StoredTensor], identity: Identity, layout: str) -> bytes:
    """The first bytes of a file: the header's length, and the header."""
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "project": f"mlc-llm {__version__}",
        "model": identity.model.encode(errors="replace").decode(),
        "library": identity.library,
        "weights": identity.weights,
        "layout": layout,
    }
    content = {_METADATA: metadata, **{name: t.entry for name, t in tensors.items()}}
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def is_cache_file(path: Path) -> bool:
    """Whether a file begins as those of this format do; what follows may be damaged.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(8 + len(_BEGIN))[8:] == _BEGIN


class Header:
    """The header of a file that is read.

    Args:
        path: the file, for messages.
        file: the same, opened.

    Attributes:
        metadata: the texts of ``__metadata__``.
        length: bytes of the file before the tensors.

    Raises:
        SavedChatError: it is not the header of such a file, or one of another version.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._size = file.seek(0, 2)
        file.seek(0)
        self.length = 8 + int.from_bytes(file.read(8), "little")
        if self._size < 8 or self.length > min(self._size, 8 + _LONGEST):
            raise malformed(path, f"its {self._size} bytes have no header")
        self._entries = _parse(path, file.read(self.length - 8))
        self.metadata = self._entries.pop(_METADATA, None)
        if not isinstance(self.metadata, dict) or self.metadata.get("format") != FORMAT:
            raise malformed(path, f"its header does not name the format {FORMAT!r}")
        if (version := self.metadata.get("version")) != VERSION:
            raise SavedChatError(
                f"{path} has version {_short(version)} of the format; this mlc_llm reads version "
                f"{VERSION!r}. Save the conversation again.",
                code="saved-chat-version",
            )

    def require(self, identity: Identity, layout: str) -> None:
        """Refuse keys and values of another model.

        Raises:
            SavedChatError: they are; the message says what differs.
        """
        wanted = {"library": identity.library, "weights": identity.weights, "layout": layout}
        names = [name for name, value in wanted.items() if self.metadata.get(name) != value]
        if names:
            raise SavedChatError(
                f"The keys and values in {self._path} were computed with the model "
                f"{_short(self.metadata.get('model'))}, and this is {identity.model!r}: another "
                f"{' and '.join(names)}. Take that one, or save the conversation again.",
                code="cache-mismatch",
            )

    @property
    def tokens(self) -> int:
        """How many tokens there are.

        Raises:
            SavedChatError: the header does not say it.
        """
        entry = self._entries.get(TOKENS)
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or len(shape) != 1 or type(shape[0]) is not int:
            raise malformed(self._path, "its header does not say how many tokens there are")
        if not 0 < shape[0] <= self._size:
            raise malformed(self._path, "its header is wrong about how many tokens there are")
        return int(shape[0])

    def tensors(self, geometry: KVCacheGeometry) -> dict[str, StoredTensor]:
        """The tensors, which must be exactly those of a file for this geometry.

        Raises:
            SavedChatError: the header names others, or the file's size does not fit them.
        """
        tensors = stored_tensors(geometry, self.tokens)
        for name in dict.fromkeys([*tensors, *self._entries]):
            if name not in tensors or self._entries.get(name) != tensors[name].entry:
                raise malformed(self._path, f"its header is wrong about the tensor {_short(name)}")
        size = self.length + tensors[PHASES].end
        if size != self._size:
            raise malformed(self._path, f"it has {self._size} bytes instead of {size}")
        return tensors


def malformed(path: Path, what: str) -> SavedChatError:
    """The error for a file that is damaged, or something else."""
    return SavedChatError(
        f"{path} does not hold keys and values as mlc_llm writes them: {what}. Delete it, and save "
        "the conversation again.",
        code="cache-damaged",
    )


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_refuse,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError):
        raise malformed(path, "its header is not valid JSON") from None
    if not isinstance(content, dict):
        raise malformed(path, "its header is not a JSON object")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's fields, each of which must be there once."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def _short(value: Any) -> str:
    """What a file says, for a message: in quotation marks, and not the whole of a long text."""
    return reprlib.repr(value)


def _refuse(text: str) -> Any:
    """A number with a fraction, NaN or infinity: a header has whole numbers only."""
    raise ValueError(text)
