"""A tensor of a GGUF file under its name in the checkpoint, with the checkpoint's order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlc_llm.errors import ConversionError
from mlc_llm.plugin import Codes, Scheme, SourceTensor
from mlc_llm.plugin.gguf import MakeValues, OrderRows
from mlc_llm.plugin.source import Rows
from mlc_llm.sources.gguf_file import GGUFEntry
from mlc_llm.sources.gguf_types import TYPES, GGUFType
from mlc_llm.sources.rows import read_rows
from mlc_llm.weights.paths import shown_name
from mlc_llm.weights.shards import widen_bfloat16

_FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_EXPONENTS = (104, 143)
"""Exponents of MXFP4 for which half of the scale, 2 ** (exponent - 128), is a float16."""


@dataclass(frozen=True)
class GGUFTensor(SourceTensor):
    """A tensor of a GGUF file.

    Args:
        name: its name in the checkpoint.
        file: the file.
        entry: what the file's header says of it.
        order: gives its rows in the checkpoint's order; None where the file has that order.
        make: gives its values as the checkpoint has them; None where the file has those.
    """

    name: str
    file: Path
    entry: GGUFEntry
    order: OrderRows | None = None
    make: MakeValues | None = None

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.entry.shape

    @property
    def dtype(self) -> str:  # type: ignore[override]
        return self.entry.type

    @property
    def nbytes(self) -> int:  # type: ignore[override]
        return self.entry.end - self.entry.begin

    @cached_property
    def scheme(self) -> Scheme | None:
        """That of its type. MXFP4's scales are float16 where that loses nothing, else float32."""
        scheme = None if self.make else self._type.scheme
        if self.dtype == "MXFP4" and scheme is not None and self._has_half_scales():
            return replace(scheme, dtype="float16")
        return scheme

    def require_readable(self) -> None:
        if self.make is not None and self._type.unpack is not None:
            raise ConversionError(
                f"{shown_name(self.entry.name)} in {self.file} is of the type {self.dtype}, where "
                "this family has floating-point numbers.",
                code="dtype-unsupported",
            )
        if not self._type.is_read:
            known = ", ".join(one.name for one in TYPES.values() if one.is_read)
            raise ConversionError(
                f"{shown_name(self.entry.name)} in {self.file} is of the type {self.dtype}, which "
                f"is not read; these are: {known}. Take a file of the model with other types, such "
                "as Q4_K_M.",
                code="dtype-unsupported",
            )

    def read(self, rows: Rows = ...) -> npt.NDArray[np.float32]:
        self.require_readable()
        values = self._read(rows)
        if self.make is not None:
            values = self.make(values)
        return values

    def _read(self, rows: Rows) -> npt.NDArray[np.float32]:
        """The values as the file has them."""
        if self._type.unpack is not None:
            return self._values(self.read_codes(rows))
        stored = self._rows(_FLOATS[self.dtype], rows)
        if self.dtype == "BF16":
            return widen_bfloat16(stored)
        values: npt.NDArray[np.float32] = stored.astype(np.float32, copy=False)
        return values

    def read_codes(self, rows: Rows = ...) -> Codes:
        kind, scheme = self._type, self.scheme
        if kind.unpack is None or scheme is None:
            return super().read_codes(rows)
        read = self._rows("u1", rows)
        codes, factors = kind.unpack(read.reshape(-1, kind.nbytes))
        rows_read, per_row = read.shape[:-1], self.shape[-1] // kind.weights
        by_rows = [
            np.ascontiguousarray(factor.reshape(*rows_read, per_row * factor.shape[1]))
            for factor in factors
        ]
        if by_rows[0].dtype == np.float32:
            by_rows[0] = by_rows[0].astype(scheme.dtype)
        self._require_finite(by_rows)
        return Codes(codes.reshape(*rows_read, self.shape[-1]), tuple(by_rows))

    @property
    def _type(self) -> GGUFType:
        return TYPES[self.dtype]

    @property
    def _width(self) -> int:
        """Elements of a row as they are stored: numbers, or bytes of blocks."""
        if self._type.unpack is None:
            return self.shape[-1]
        return self.shape[-1] // self._type.weights * self._type.nbytes

    def _rows(self, dtype: str, rows: Rows) -> npt.NDArray[Any]:
        """Some rows as they are stored: slices along the first axis, in the checkpoint's order."""
        shape = (*self.shape[:-1], self._width)
        name, begin = self.entry.name, self.entry.begin
        if self.order is None:
            return read_rows(name, self.file, begin, dtype, shape, rows)
        order = np.asarray(self.order(np.arange(shape[0])))[rows]
        if not order.size:
            return np.empty((0, *shape[1:]), dtype)
        # The rows of a head lie together, so that little more is read than is wanted.
        first, last = int(order.min()), int(order.max()) + 1
        read = read_rows(name, self.file, begin, dtype, shape, slice(first, last))
        ordered: npt.NDArray[Any] = read[order - first]
        return ordered

    def _values(self, stored: Codes) -> npt.NDArray[np.float32]:
        """The values that codes and factors stand for, computed in float32."""
        scheme = self.scheme
        assert scheme is not None
        factors = [factor.astype(np.float32) for factor in stored.factors]
        if scheme.super_group is not None:
            times = scheme.super_group // scheme.group
            levels = zip(factors[::2], factors[1::2], strict=True)
            factors = [group * np.repeat(of_super, times, axis=-1) for group, of_super in levels]
        scale, *minimum = (factor[..., None] for factor in factors)
        values = stored.codes.reshape(*scale.shape[:-1], scheme.group).astype(np.float32)
        if scheme.zero is not None:
            values -= np.float32(scheme.zero)
        with np.errstate(over="ignore"):  # what overflows becomes infinity, which is refused
            values *= scale
        if minimum:
            values += minimum[0]
        return values.reshape(stored.codes.shape)

    def _has_half_scales(self) -> bool:
        low, high = _EXPONENTS
        step = max(1, (16 << 20) // max(1, self._width))
        for first in range(0, self.shape[0], step):
            blocks = self._rows("u1", slice(first, first + step)).reshape(-1, self._type.nbytes)
            exponents = blocks[:, 0]
            if exponents.size and not low <= exponents.min() <= exponents.max() <= high:
                return False
        return True

    def _require_finite(self, factors: Sequence[npt.NDArray[np.generic]]) -> None:
        if all(np.isfinite(factor).all() for factor in factors):
            return
        raise ConversionError(
            f"{shown_name(self.entry.name)} in {self.file} has a scale or a minimum that is NaN or "
            "infinity: the file is damaged.",
            code="weight-not-finite",
        )
