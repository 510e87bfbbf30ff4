"""Packed weights in groups, read in vectors of rows. Layout: see `group_layout.py`.

A dot product takes bytes of codes. Where its instruction takes only nibbles (`dot.py`), a code of
a whole byte is two digits, 16 * high + low, and has two dot products. A code of 5 or 6 bits is put
together of its nibble and its upper bits, and fits into a sum of 16 bits: 2 * 63 * 128 < 2^15.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .group_layout import Factors, PackedTensors, Part
from .isa import Isa
from .vector import (
    Buffer,
    Expr,
    bind,
    i64,
    load,
    load_f32,
    load_half,
    prefetch,
    splat,
    vtype,
)

_AHEAD = 2048  # bytes of a block's codes from a load to its prefetch
_LINE = 64  # bytes of a chunk, and of a cache line


@dataclass(frozen=True)
class GroupWeight:
    """A part of a weight, in a kernel."""

    tensors: PackedTensors
    isa: Isa

    @property
    def part(self) -> Part:
        """What is packed."""
        return self.tensors.part

    @property
    def blocks(self) -> Expr:
        """Blocks of 16 rows."""
        return self.tensors.codes.shape[0]

    @property
    def groups(self) -> int:
        """Groups of a row."""
        return int(self.tensors.codes.shape[1])

    @property
    def digits(self) -> int:
        """Dot products that a group's codes take."""
        return 1 if self.part.nibbles or self.isa.dot.whole_bytes else 2

    @property
    def offset(self) -> int:
        """What is taken off the codes of dot products: the zero, less 128 where they are, too."""
        signed = not self.part.nibbles and self.isa.dot.whole_bytes and self.isa.dot.signed
        return (self.part.scheme.zero or 0) - (128 if signed else 0)

    @property
    def largest(self) -> int:
        """The largest code of a dot product."""
        return 15 if self.digits == 2 else 2**self.part.scheme.bits - 1

    def operands(self, digit: int, c: int) -> list[tuple[int | None, int]]:
        """The codes in bytes c that a dot product takes.

        Args:
            digit: of the codes, the highest first.
            c: which bytes.

        Returns:
            Which nibble (0 the lower, 1 the upper, None for whole bytes), and the place in the
            group of the first of its four columns.
        """
        if self.part.nibbles:
            return [(0, 4 * c), (1, 4 * c + self.part.scheme.group // 2)]
        return [(None if self.digits == 1 else 1 - digit, 4 * c)]

    def packed(self, block: Expr, g: Expr, c: int, v: int) -> Expr:
        """The bytes c of vector v of a block."""
        at = (block, g, i64(c), i64(4 * self.isa.lanes * v))
        return bind(load(self.tensors.codes, at, 4 * self.isa.lanes))

    def codes(self, block: Expr, g: Expr, c: int, v: int, nibble: int | None) -> Expr:
        """Those of bytes c that `operands` names, of vector v of a block, a code a byte."""
        packed, lanes = self.packed(block, g, c, v), 4 * self.isa.lanes
        if nibble is None:
            return bind(packed ^ splat(T.uint8(128), lanes)) if self.isa.dot.signed else packed
        low = packed & splat(T.uint8(15), lanes)
        if nibble == 1:
            low = T.shift_right(packed, splat(T.uint8(4), lanes))
        if not self.part.high_bits:
            return bind(low)
        return bind(low | self._high(block, g, c, v, nibble))

    def _high(self, block: Expr, g: Expr, c: int, v: int, nibble: int) -> Expr:
        """The upper bits of codes, above those of a nibble."""
        chunk, first = self.part.high(c, nibble)
        lanes = self.isa.lanes
        # In words, as there are no shifts of bytes; what comes from the next byte is masked.
        words = T.reinterpret(vtype("uint32", lanes), self.packed(block, g, chunk, v))
        shift = T.shift_left if first < 4 else T.shift_right
        moved = words if first == 4 else shift(words, splat(T.uint32(abs(first - 4)), lanes))
        mask = ((1 << self.part.high_bits) - 1) * 0x10101010
        return T.reinterpret(vtype("uint8", 4 * lanes), moved & splat(T.uint32(mask), lanes))

    def scale(self, block: Expr, g: Expr, v: int) -> Expr:
        """The scales of vector v of a block, in float32."""
        return self._factors(self.tensors.scales, block, g, v)

    def minimum(self, block: Expr, g: Expr, v: int) -> Expr:
        """The minimums of vector v of a block, in float32; of a scheme that has some."""
        assert self.tensors.minimums is not None
        return self._factors(self.tensors.minimums, block, g, v)

    def _factors(self, factors: Factors, block: Expr, g: Expr, v: int) -> Expr:
        lower = self._floats(factors.lower, block, g, v)
        if factors.upper is None:
            return lower
        return bind(lower * self._floats(factors.upper, block, factors.over(g), v))

    def _floats(self, tensor: Buffer, block: Expr, place: Expr, v: int) -> Expr:
        at = (block, place, i64(self.isa.lanes * v))
        widen = load_half if tensor.dtype == "float16" and not self.isa.half else load_f32
        return bind(widen(tensor, at, self.isa.lanes))

    def prefetch(self, block: Expr, g: Expr, stride: int) -> None:
        """Ask for what is read soon: of this block, or where it ends, of the next.

        Args:
            block: the block that is read.
            g: the group that is read.
            stride: blocks between this one and the next.
        """
        steps = min(self.groups, max(1, _AHEAD // (_LINE * self.part.all_chunks)))
        is_next = g + steps >= self.groups
        block = bind(T.Select(is_next, block + stride, block))
        ahead = bind(T.Select(is_next, g + (steps - self.groups), g + steps))
        for c in range(self.part.all_chunks):
            prefetch(self.tensors.codes, (block, ahead, i64(c), i64(0)))
        for factors in self.tensors.factors:
            prefetch(factors.lower, (block, ahead, i64(0)))
