"""Dot products of codes and 8-bit activations, by the instructions that sum them.

A vector of codes has 4 * `lanes` bytes; a word of activations has 4 signed bytes and stands in
every 32-bit lane. Lane i of the result takes the four products of lane i:

    sum[i] += codes[4 i] * word[0] + ... + codes[4 i + 3] * word[3]

Codes are unsigned and at most 15, nibbles. Where `whole_bytes` says so, they may take the whole
byte: unsigned, or where the instruction knows only signed bytes (`signed`), less 128.

What a sum is collected in differs (`sum`, `add`, `finish`), but everything is exact: no more
vectors go into one sum than `capacity` says, so that none overflows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from tvm.script.ir_builder import tirx as T

from .vector import Accumulator, Expr, bind, splat, vtype


@dataclass(frozen=True)
class Dot(ABC):
    """One way to sum products in vectors of `lanes` 32-bit lanes.

    `sum_bits` is the width of a sum, and `products` how many of a vector go into it. The sums of a
    vector take `sum_registers`.

    Args:
        lanes: 32-bit lanes of a vector.
        signed: whether whole bytes of codes are signed.
    """

    lanes: int
    signed: bool = field(default=False, kw_only=True)
    sum_registers: ClassVar[int] = 1
    whole_bytes: ClassVar[bool] = False
    sum_bits: ClassVar[int] = 16
    products: ClassVar[int]

    def capacity(self, largest: int) -> int:
        """Vectors of codes up to `largest` that one sum holds."""
        return (2 ** (self.sum_bits - 1) - 1) // (self.products * 128 * largest)

    @abstractmethod
    def sum(self, start: Expr) -> Accumulator:
        """What products are collected in; `start` (int32 lanes) may be in it already."""

    @abstractmethod
    def add(self, total: Accumulator, codes: Expr, word: Expr) -> None:
        """Add the products of `codes` (bytes) and `word` (int32 lanes)."""

    @abstractmethod
    def finish(self, total: Expr, start: Expr) -> Expr:
        """The int32 lanes of the sum, `start` included."""

    def _bytes(self, words: Expr) -> Expr:
        return T.reinterpret(vtype("int8", 4 * self.lanes), words)


@dataclass(frozen=True)
class FusedDot(Dot):
    """An instruction that multiplies, sums four products and adds them to an int32 lane.

    Args:
        instruction: LLVM's name of it; it takes the sum, the codes and the activations.
    """

    instruction: str
    whole_bytes: ClassVar[bool] = True
    sum_bits: ClassVar[int] = 32
    products: ClassVar[int] = 4

    def sum(self, start: Expr) -> Accumulator:
        return Accumulator(self.lanes, start, "int32")

    def add(self, total: Accumulator, codes: Expr, word: Expr) -> None:
        dtype, operands = vtype("int32", self.lanes), map(self._bytes, (codes, word))
        total.set(T.call_llvm_pure_intrin(dtype, self.instruction, total.get(), *operands))

    def finish(self, total: Expr, start: Expr) -> Expr:
        return total


@dataclass(frozen=True)
class PairDot(Dot):
    """An instruction that sums two products into 16 bits; another adds pairs of sums at the end.

    Args:
        instruction: LLVM's name of the first: unsigned bytes times signed bytes.
        widen: of the second: 16-bit pairs, multiplied and summed into 32 bits.
    """

    instruction: str
    widen: str
    products: ClassVar[int] = 2

    def sum(self, start: Expr) -> Accumulator:
        return Accumulator(2 * self.lanes, splat(T.int16(0), 2 * self.lanes), "int16")

    def add(self, total: Accumulator, codes: Expr, word: Expr) -> None:
        dtype, operands = vtype("int16", 2 * self.lanes), map(self._bytes, (codes, word))
        total.add(T.call_llvm_pure_intrin(dtype, self.instruction, *operands))

    def finish(self, total: Expr, start: Expr) -> Expr:
        ones = splat(T.int16(1), 2 * self.lanes)
        dtype = vtype("int32", self.lanes)
        return bind(start + T.call_llvm_pure_intrin(dtype, self.widen, total, ones))


@dataclass(frozen=True)
class PlainDot(Dot):
    """No instruction of its own: every product has its 16-bit sum, neighbours meet at the end.

    Two of them meet in 16 bits, so each may be half as large. LLVM makes widening multiply-adds of
    it where there are some (`smlal` on Arm).
    """

    products: ClassVar[int] = 2
    sum_registers: ClassVar[int] = 2

    def sum(self, start: Expr) -> Accumulator:
        return Accumulator(4 * self.lanes, splat(T.int16(0), 4 * self.lanes), "int16")

    def add(self, total: Accumulator, codes: Expr, word: Expr) -> None:
        wide = vtype("int16", 4 * self.lanes)
        a, b = (T.Cast(wide, self._bytes(v)) for v in (codes, word))
        total.add(a * b)

    def finish(self, total: Expr, start: Expr) -> Expr:
        pairs = _neighbours(total, 4 * self.lanes)
        fours = _neighbours(T.Cast(vtype("int32", 2 * self.lanes), pairs), 2 * self.lanes)
        return bind(start + fours)


def _neighbours(vector: Expr, lanes: int) -> Expr:
    """The sums of lanes 0 and 1, 2 and 3, ..."""
    vector = bind(vector)
    even, odd = (T.Shuffle([vector], list(range(first, lanes, 2))) for first in (0, 1))
    return bind(even + odd)
