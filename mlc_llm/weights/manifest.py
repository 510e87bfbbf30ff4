"""The manifest of a model folder: which tensor lies where in which shard.

``tensor-cache.json`` (older: ``ndarray-cache.json``, the same format) is what TVM writes and reads;
see ``src/runtime/vm/tensor_cache_support.cc`` in its sources. A shard holds the bytes of tensors in
row-major order, little-endian. A tensor of dtype float32 whose record has the format
``f32-to-bf16`` is stored as bfloat16; for any other dtype that format means nothing.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from mlc_llm.errors import ModelFolderError
from mlc_llm.files import read_json_object
from mlc_llm.shown import shown

MANIFEST_FILE = "tensor-cache.json"
OLDER_MANIFEST_FILE = "ndarray-cache.json"

RAW = "raw"
BFLOAT16 = "f32-to-bf16"

DTYPES = frozenset(
    [f"float{bits}" for bits in (16, 32, 64)]
    + [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
)
"""The dtypes that a tensor may have."""

MOST_AXES = 32
"""Axes that a tensor may have: as many as every version of NumPy has room for."""
_LARGEST = 2**60
"""Elements that no tensor has: of 8 bytes each they have more bytes than an address."""


@dataclass(frozen=True)
class TensorRecord:
    """One tensor.

    Args:
        name: the tensor's name.
        shape: its shape.
        dtype: its dtype, as NumPy names it.
        shard: its shard's file, relative to the folder.
        offset: where its bytes begin in the shard.
        nbytes: how many there are in the shard.
        format: ``raw``, or ``f32-to-bf16``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    shard: str
    offset: int
    nbytes: int
    format: str = RAW

    @property
    def narrowed(self) -> bool:
        """Whether this float32 tensor is stored as bfloat16."""
        return self.dtype == "float32" and self.format == BFLOAT16

    def stored_nbytes(self) -> int:
        """How many bytes the shape and the dtype need in the shard."""
        itemsize = 2 if self.narrowed else np.dtype(self.dtype).itemsize
        return math.prod(self.shape) * itemsize


@dataclass(frozen=True)
class ShardRecord:
    """One shard: its file relative to the folder, its size, its checksum and its tensors."""

    file: str
    nbytes: int
    md5: str | None
    tensors: tuple[TensorRecord, ...]


@dataclass(frozen=True)
class Manifest:
    """What ``tensor-cache.json`` says.

    Args:
        shards: the shards, in the file's order.
        metadata: what the file says of the whole, such as ``BitsPerParam``.
    """

    shards: tuple[ShardRecord, ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> dict[str, TensorRecord]:
        """Every tensor by its name, in the file's order."""
        return {tensor.name: tensor for shard in self.shards for tensor in shard.tensors}

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors as they are stored."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read and check a manifest.

        Raises:
            ModelFolderError: it is not JSON, a field is missing or malformed, a tensor is listed
                twice, or does not lie inside its shard.
        """
        return cls.parse(read_json_object(path, ModelFolderError), str(path))

    @classmethod
    def parse(cls, data: Any, origin: str) -> Manifest:
        """Check a manifest's data, read from ``origin``; raises as :meth:`load`."""
        try:
            file = _File.model_validate(data)
            manifest = cls(tuple(shard.record() for shard in file.records), file.metadata)
            _check(manifest)
        except ValidationError as error:
            item = error.errors()[0]
            where = ".".join(map(str, item["loc"])) or "the file"
            raise ModelFolderError(
                _malformed(origin, f"{where}: {item['msg']}"), code="manifest-malformed"
            ) from None
        except ValueError as problem:
            raise ModelFolderError(
                _malformed(origin, str(problem)), code="manifest-malformed"
            ) from None
        return manifest

    def dump(self) -> bytes:
        """The file's content."""
        data = {"metadata": self.metadata, "records": [dump_shard(s) for s in self.shards]}
        return json.dumps(data, indent=4).encode()


def _malformed(origin: str, problem: str) -> str:
    return f"{origin} cannot be used: {problem}. Fetch or convert the model again."


Size = Annotated[StrictInt, Field(ge=0, lt=1 << 63)]


Name = Annotated[str, Field(min_length=1, max_length=1000)]
Word = Annotated[str, Field(max_length=100)]


class _Tensor(BaseModel):
    name: Name
    shape: list[Size]
    dtype: Word
    format: Word
    nbytes: Size
    offset: Size = Field(alias="byteOffset")


class _Shard(BaseModel):
    file: Name = Field(alias="dataPath")
    format: Word
    nbytes: Size
    records: list[_Tensor]
    md5: Word | None = Field(alias="md5sum", default=None)

    def record(self) -> ShardRecord:
        if self.format != "raw-shard":
            raise ValueError(
                f"the shard {shown(self.file)} has the format {shown(self.format)}; only "
                "'raw-shard' is known"
            )
        tensors = tuple(
            TensorRecord(
                name=item.name,
                shape=tuple(item.shape),
                dtype=item.dtype,
                shard=self.file,
                offset=item.offset,
                nbytes=item.nbytes,
                format=item.format,
            )
            for item in self.records
        )
        return ShardRecord(self.file, self.nbytes, self.md5, tensors)


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    metadata: dict[str, Any] = {}
    records: list[_Shard]


def _check(manifest: Manifest) -> None:
    """Raise ValueError with the first thing that contradicts itself."""
    files: set[str] = set()
    names: set[str] = set()
    for shard in manifest.shards:
        if not _stays_inside(shard.file):
            raise ValueError(f"the shard {shown(shard.file)} lies outside the folder")
        if shard.file in files:
            raise ValueError(f"the shard {shown(shard.file)} is listed twice")
        files.add(shard.file)
        for tensor in shard.tensors:
            if tensor.name in names:
                raise ValueError(f"the tensor {shown(tensor.name)} is listed twice")
            names.add(tensor.name)
            _check_tensor(tensor, shard)
        _check_overlap(shard.tensors)
    if not names:
        raise ValueError("it lists no tensors")


def _stays_inside(file: str) -> bool:
    windows, posix = PureWindowsPath(file), PurePosixPath(file)
    absolute = posix.is_absolute() or windows.drive or windows.root
    return not absolute and ".." not in windows.parts and posix.name != ""


def _check_tensor(tensor: TensorRecord, shard: ShardRecord) -> None:
    where = f"the tensor {shown(tensor.name)}"
    if tensor.dtype not in DTYPES:
        raise ValueError(f"{where} has the dtype {shown(tensor.dtype)}, which is not supported")
    if tensor.format not in (RAW, BFLOAT16):
        raise ValueError(f"{where} has the format {shown(tensor.format)}, which is not known")
    # An axis of length 0 makes a tensor empty, and not its other axes any shorter.
    if len(tensor.shape) > MOST_AXES or math.prod(filter(None, tensor.shape)) >= _LARGEST:
        raise ValueError(f"{where} has the shape {shown(tensor.shape)}, which no tensor can have")
    if tensor.nbytes != tensor.stored_nbytes():
        raise ValueError(
            f"{where} has {tensor.nbytes} bytes; its shape {shown(tensor.shape)} and its dtype "
            f"{tensor.dtype} need {tensor.stored_nbytes()}"
        )
    end = tensor.offset + tensor.nbytes
    if end > shard.nbytes:
        raise ValueError(
            f"{where} ends at byte {end} of {shown(shard.file)}, which has {shard.nbytes} bytes"
        )


def _check_overlap(tensors: Iterable[TensorRecord]) -> None:
    ordered = sorted((t for t in tensors if t.nbytes), key=lambda tensor: tensor.offset)
    for first, second in itertools.pairwise(ordered):
        if first.offset + first.nbytes > second.offset:
            raise ValueError(
                f"the tensors {shown(first.name)} and {shown(second.name)} overlap in "
                f"{shown(first.shard)}"
            )


def dump_shard(shard: ShardRecord) -> dict[str, Any]:
    """A shard's record, as the file has it."""
    return {
        "dataPath": shard.file,
        "format": "raw-shard",
        "nbytes": shard.nbytes,
        "records": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "format": tensor.format,
                "nbytes": tensor.nbytes,
                "byteOffset": tensor.offset,
            }
            for tensor in shard.tensors
        ],
        "md5sum": shard.md5,
    }
