"""A tile of tokens times some blocks of a weight in groups, on dot products of bytes.

Activations are rounded to one byte or two, x ~ v * d (`rounding.py`). A lane is a row. The sum of a
group starts at -zero * sum(v), is exact in 32 bits, and

    y[r] += sum[r] * (scale[r] * d)           and where there are minimums
    y[r] += minimum[r] * (d * sum(v))

in float32. How a code and an activation are multiplied is the instruction set's (`dot.py`), and so
is how many tokens go through the body together, so that codes are unpacked once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from tvm.script.ir_builder import tirx as T

from .blocks import BLOCK_ROWS
from .group_weight import GroupWeight
from .output import Output
from .rounding import Rounded
from .vector import Accumulator, Expr, bind, i32, i64, serial, splat, vtype, when

Sums = list[list[Expr]]
"""Vectors of 32-bit lanes, by token, by vector of rows."""

Stage = tuple[int, int]
"""A term of the activations and a digit of the codes."""


def multiply(
    rounded: Rounded,
    weight: GroupWeight,
    y: Output,
    block: Expr,
    together: int,
    t: Expr,
    first: Expr,
) -> None:
    """Write tile t of the tokens from `first` on: the rows of `together` blocks from `block` on."""
    lanes, per_block = weight.isa.lanes, BLOCK_ROWS // weight.isa.lanes
    blocks = [bind(block + b) for b in range(together)]
    rows = [(b, v) for b in blocks for v in range(per_block)]
    sums = [[Accumulator(lanes) for _ in rows] for _ in range(rounded.tile)]
    with serial(weight.groups) as g:
        if rounded.tile == 1:
            for b in blocks:
                weight.prefetch(b, g, together)
        _Group(rounded, weight, rows, t, g).add_to(sums)
    for m in range(rounded.tile):
        token = bind(first + t * rounded.tile + m)
        with when(token < y.tokens):
            for i, b in enumerate(blocks):
                values = [total.get() for total in sums[m][i * per_block : (i + 1) * per_block]]
                y.store(token, b, values)


@dataclass(frozen=True)
class _Group:
    """Group g of tile t of the activations, and of some vectors of rows of the weight."""

    rounded: Rounded
    weight: GroupWeight
    rows: Sequence[tuple[Expr, int]]  # block, vector of the block
    t: Expr
    g: Expr

    def add_to(self, sums: Sequence[Sequence[Accumulator]]) -> None:
        """Add what the group's columns are to the results, by token, by vector of rows."""
        weight, lanes = self.weight, self.weight.isa.lanes
        dots = self._dots()
        scales = [weight.scale(b, self.g, v) for b, v in self.rows]
        for m, totals in enumerate(sums):
            step = bind(splat(self.rounded.scale[self.t, self.g, i64(m)], lanes))
            for total, dot, scale in zip(totals, dots[m], scales, strict=True):
                total.add(T.Cast(vtype("float32", lanes), dot) * (scale * step))
        if not weight.part.scheme.has_minimum:
            return
        minimums = [weight.minimum(b, self.g, v) for b, v in self.rows]
        for m, totals in enumerate(sums):
            activations = bind(splat(self.rounded.sums[self.t, self.g, i64(m)], lanes))
            for total, minimum in zip(totals, minimums, strict=True):
                total.add(minimum * activations)

    def _dots(self) -> Sums:
        """The integer sums of the group.

        They are collected in stages, one for each term of the activations and digit of the codes,
        each of which counts 2^shift times as much as the next. A stage begins at 2^shift times the
        sum of those before, so that sums take no more registers than with one stage. But where the
        sums of all stages stay in registers, they are collected together and added in the end: so
        codes are unpacked once for all of them, and no sum waits for another.
        """
        lanes, digits = self.weight.isa.lanes, self.weight.digits
        stages = [(term, digit) for term in range(self.rounded.terms) for digit in range(digits)]
        shift = splat(i32(8 // digits), lanes)
        totals = self._zeros()
        for some in self._together(stages):
            begins = [self._zeros() for _ in some]
            begins[0] = _shifted(totals, shift)
            if some[-1] == stages[-1]:
                begins[-1] = _plus(begins[-1], self._starts())
            totals, *others = self._add_products(begins, some)
            for other in others:
                totals = _plus(_shifted(totals, shift), other)
        return totals

    def _together(self, stages: Sequence[Stage]) -> list[Sequence[Stage]]:
        """The stages, those that are collected together in one list."""
        isa = self.weight.isa
        sums = len(self.rows) * self.rounded.tile * len(stages)
        # The other half of the registers is for codes and activations.
        fit = sums * isa.dot.sum_registers <= isa.registers // 2
        return [stages] if fit else [[stage] for stage in stages]

    def _zeros(self) -> Sums:
        zero = splat(i32(0), self.weight.isa.lanes)
        return [[zero for _ in self.rows] for _ in range(self.rounded.tile)]

    def _starts(self) -> Sums:
        """What takes the codes' offset off the sums."""
        if self.weight.offset == 0:
            return self._zeros()
        starts, lanes = self.rounded.starts[self.weight.offset], self.weight.isa.lanes
        tokens = range(self.rounded.tile)
        values = [bind(splat(starts[self.t, self.g, i64(m)], lanes)) for m in tokens]
        return [[value for _ in self.rows] for value in values]

    def _add_products(self, totals: Sequence[Sums], stages: Sequence[Stage]) -> Sequence[Sums]:
        """`totals` of some stages and their products."""
        weight, chunks = self.weight, self.weight.part.chunks
        vectors = len(weight.operands(0, 0))
        at_once = weight.isa.dot.capacity(weight.largest) // vectors
        for first in range(0, chunks, at_once):
            some = range(first, min(first + at_once, chunks))
            totals = self._add_chunks(totals, stages, some)
        return totals

    def _add_chunks(
        self, totals: Sequence[Sums], stages: Sequence[Stage], chunks: range
    ) -> Sequence[Sums]:
        """`_add_products` of as many vectors of codes as one sum holds."""
        weight, dot = self.weight, self.weight.isa.dot
        sums = [[[dot.sum(total) for total in token] for token in stage] for stage in totals]
        digits = sorted({digit for _, digit in stages})
        for c, digit in product(chunks, digits):
            for nibble, column in weight.operands(digit, c):
                codes = [weight.codes(block, self.g, c, v, nibble) for block, v in self.rows]
                for (term, other), found in zip(stages, sums, strict=True):
                    if other == digit:
                        self._add_word(found, codes, term, column)
        return [
            [
                [dot.finish(total.get(), start) for total, start in zip(*token, strict=True)]
                for token in zip(*stage, strict=True)
            ]
            for stage in zip(sums, totals, strict=True)
        ]

    def _add_word(
        self, sums: Sequence[Sequence[Accumulator]], codes: Sequence[Expr], term: int, column: int
    ) -> None:
        """Add the products of codes and the four activations from a column of the group on."""
        for m, totals in enumerate(sums):
            word = bind(self.rounded.word(self.t, self.g, m, term, column))
            for total, code in zip(totals, codes, strict=True):
                self.weight.isa.dot.add(total, code, word)


def _plus(some: Sums, others: Sums) -> Sums:
    return [
        [bind(a + b) for a, b in zip(*token, strict=True)]
        for token in zip(some, others, strict=True)
    ]


def _shifted(some: Sums, shift: Expr) -> Sums:
    return [[bind(T.shift_left(total, shift)) for total in token] for token in some]
