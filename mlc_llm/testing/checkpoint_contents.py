"""What is read of a checkpoint, and what must agree in it, for the tests of formats."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from mlc_llm.plugin import Scheme, Source, SourceTensor
from mlc_llm.plugin.scheme import stored_tensors
from mlc_llm.plugin.source import Rows
from mlc_llm.quantization.codes import pack_codes
from mlc_llm.quantization.packing import dequantize

Values = Mapping[str, npt.NDArray[Any]]


def read_all(source: Source) -> Values:
    """Read everything of a checkpoint, and return the values of its tensors.

    Raises:
        MLCError: what the source raises for a checkpoint that is damaged.
    """
    assert isinstance(source.config, Mapping), f"config is {source.config!r}"
    assert isinstance(source.generation_config, Mapping), "generation_config is not a mapping"
    assert isinstance(source.chat_template, str | None), "chat_template is not text"
    values = {name: np.array(tensor.read()) for name, tensor in source.tensors().items()}
    source.tokenizer_files()
    return values


def row_slices(shape: tuple[int, ...]) -> Iterator[slice]:
    """Some rows of a tensor that has rows: the first, the last, those between, none, too many."""
    if shape:
        rows = shape[0]
        yield from (slice(0, 1), slice(rows // 3, rows - rows // 4), slice(max(0, rows - 1), rows))
        yield from (slice(rows, rows), slice(0, 0), slice(rows // 2, rows + 7))


def kept_values(tensor: SourceTensor, scheme: Scheme, rows: Rows) -> npt.NDArray[np.float32]:
    """The values of some rows of a matrix as its scheme keeps them."""
    if scheme.is_float:
        with np.errstate(over="ignore"):
            return tensor.read(rows).astype(scheme.dtype).astype(np.float32)
    stored = tensor.read_codes(rows)
    wanted = stored_tensors("w.weight", ((len(stored.codes), scheme),), tensor.shape[1])
    parts = [*pack_codes(stored.codes, scheme), *stored.factors]
    told = [(tuple(part.shape), str(part.dtype)) for part in parts]
    assert told == [(one.shape, one.dtype) for one in wanted], (
        f"{tensor.name} has codes and factors of the shapes and types {told} in {scheme}"
    )
    return dequantize(parts, tensor.shape[1], scheme)


def is_same(kept: npt.NDArray[Any], read: npt.NDArray[Any], scheme: Scheme) -> bool:
    """Whether a matrix is kept without loss, but for bfloat16's values beyond float16's range."""
    if not scheme.is_float:
        return bool(np.allclose(kept, read, rtol=1e-6, atol=0))
    bounds = np.finfo(scheme.dtype)
    within = (np.abs(read) >= float(bounds.tiny)) & (np.abs(read) <= float(bounds.max))
    return is_equal(kept[within], read[within])


def is_equal(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """Whether two arrays have one shape and the same values, NaN among them."""
    return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=True))


def are_equal(one: Values, other: Values) -> bool:
    """Whether two checkpoints have the same tensors."""
    return one.keys() == other.keys() and all(is_equal(one[name], other[name]) for name in one)


def held_files(folder: Path) -> Iterator[str]:
    """The files in a folder that this process has open or mapped; the test is skipped elsewhere.

    Linux alone says which these are.
    """
    process = Path("/proc/self")
    if not (process / "maps").is_file():
        pytest.skip("this system does not say which files a process has open")
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that listed the others
            target = descriptor.readlink()
            if target.is_relative_to(folder):
                yield str(target)
    for line in (process / "maps").read_text(encoding="utf-8").splitlines():
        if str(folder) in line:
            yield line.split(maxsplit=5)[-1]
