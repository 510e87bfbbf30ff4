"""How a weight (rows, columns) is stored, as the matmuls and the embedding read it.

Both kinds are read in units of consecutive weights of one row, so that neighbouring threads, which
take neighbouring units, read neighbouring memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .launch import Buffer, Expr, argument, bind, f32, i32, load_f32

GROUP = 32
"""4-bit weights that share a scale."""

CODES = 8
"""4-bit codes of a word."""


@dataclass(frozen=True)
class Weight(ABC):
    """A kind of storage.

    Args:
        columns: weights of a row.
        dtype: dtype of the floats among what is stored: the weights themselves, or their scales.
    """

    columns: int
    dtype: str

    unit: int = 1

    @property
    def units(self) -> int:
        """Units of a row, the last one perhaps ragged."""
        return -(-self.columns // self.unit)

    @property
    def ragged(self) -> bool:
        """Whether the last unit of a row reaches beyond its end, where weights mean nothing."""
        return self.columns % self.unit != 0

    @abstractmethod
    def arguments(self, rows: Expr) -> Tensors:
        """Declare the kernel's arguments that hold a weight of so many rows."""


class Tensors(ABC):
    """A stored weight's tensors inside a kernel."""

    @abstractmethod
    def read(self, row: Expr, unit: Expr) -> tuple[list[Expr], Expr | None]:
        """The weights of a unit as float32, up to a factor that they share (None: 1)."""


@dataclass(frozen=True)
class FloatWeight(Weight):
    """Weights as they are; a unit is one weight."""

    def arguments(self, rows: Expr) -> Tensors:
        return _FloatTensors(argument("weight", (rows, self.columns), self.dtype))


@dataclass(frozen=True)
class Q4Weight(Weight):
    """MLC's packed 4 bits: words (rows, 4 groups) of eight codes, the first in the lowest bits, and
    scales (rows, groups). A weight is (code - 7) * scale; a unit is a word."""

    unit: int = CODES

    def arguments(self, rows: Expr) -> Tensors:
        groups = -(-self.columns // GROUP)
        words = argument("q_weight", (rows, groups * GROUP // CODES), "uint32")
        return _Q4Tensors(words, argument("q_scale", (rows, groups), self.dtype))


@dataclass(frozen=True)
class _FloatTensors(Tensors):
    weight: Buffer

    def read(self, row: Expr, unit: Expr) -> tuple[list[Expr], Expr | None]:
        return [load_f32(self.weight, (row, unit))], None


@dataclass(frozen=True)
class _Q4Tensors(Tensors):
    words: Buffer
    scales: Buffer

    def read(self, row: Expr, unit: Expr) -> tuple[list[Expr], Expr | None]:
        word = bind(self.words[row, unit])
        scale = bind(load_f32(self.scales, (row, T.truncdiv(unit, i32(GROUP // CODES)))))
        return [_code(word, i) - f32(7.0) for i in range(CODES)], scale


def _code(word: Expr, index: int) -> Expr:
    """One of a word's codes as float32."""
    code = T.shift_right(word, T.uint32(4 * index)) & T.uint32(15)
    return T.Cast("float32", code)
