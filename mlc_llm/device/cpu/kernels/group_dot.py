"""Tokens times some blocks of a weight in groups, on dot products of bytes.

Activations are rounded to one byte or two, x ~ v * d (`rounding.py`). A lane is a row. The sum of a
group starts at -zero * sum(v), is exact in 32 bits, and

    y[r] += sum[r] * (scale[r] * d)           and where there are minimums
    y[r] += minimum[r] * (d * sum(v))

in float32, group by group: a token's results are the same to the bit whatever others there are. How
a code and an activation are multiplied is the instruction set's (`dot.py`).

The codes of a group are unpacked into registers, and all tokens pass by them, each with its sums in
the cache. So a second token costs its dot products and nothing else, and a few wait for the memory
no longer than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from tvm.script.ir_builder import tirx as T

from .blocks import BLOCK_ROWS
from .group_weight import GroupWeight
from .output import Output
from .rounding import Rounded
from .vector import Buffer, Expr, bind, i32, i64, load, scratch, serial, splat, store, vtype

Rows = Sequence[tuple[Expr, int]]
"""Vectors of rows: the block, and which vector of it."""


def multiply(
    rounded: Rounded, weight: GroupWeight, y: Output, block: Expr, first: Expr, tokens: Expr
) -> None:
    """Write the rows of two blocks, for two streams of weights.

    Args:
        rounded: the activations.
        weight: the weight.
        y: where the results go.
        block: the first block.
        first: the row of y that the first token has.
        tokens: how many of the rounded ones there are.
    """
    lanes, blocks = weight.isa.lanes, [bind(block), bind(block + 1)]
    rows = [(b, v) for b in blocks for v in range(BLOCK_ROWS // lanes)]
    sums = scratch((rounded.room, len(rows) * lanes))
    with serial(tokens) as m:
        for i in range(len(rows)):
            store(sums, (m, i64(i * lanes)), splat(0.0, lanes), lanes)
    together = _together(rounded, weight, rows)
    with serial(weight.groups) as g:
        for b in blocks:
            weight.prefetch(b, g, len(blocks))
        for i in range(0, len(rows), together):
            group = _Group.unpack(rounded, weight, rows[i : i + together], g)
            with serial(tokens) as m:
                group.add_to(sums, m, i * lanes)
    with serial(tokens) as m:
        for i, b in enumerate(blocks):
            columns = range(i * BLOCK_ROWS, (i + 1) * BLOCK_ROWS, lanes)
            y.store(bind(first + m), b, [load(sums, (m, i64(j)), lanes) for j in columns])


def _together(rounded: Rounded, weight: GroupWeight, rows: Rows) -> int:
    """How many vectors of rows are unpacked together.

    Their codes take at most half of the registers, so that they stay there for all tokens. A single
    token uses each code once, and shares its activations among all rows.
    """
    if isinstance(rounded.room, int):
        return len(rows)
    codes = weight.digits * weight.part.chunks * len(weight.operands(0, 0))
    return max(1, weight.isa.registers // 2 // codes)


@dataclass(frozen=True)
class _Group:
    """Group g of some vectors of rows of the weight.

    Args:
        rounded: the activations.
        weight: the weight.
        g: which group.
        codes: one vector for each of rows, by their digit and the column of the group.
        scales: one for each of rows.
        minimums: the same, or none where the weight has none.
    """

    rounded: Rounded
    weight: GroupWeight
    g: Expr
    codes: Mapping[tuple[int, int], Sequence[Expr]]
    scales: Sequence[Expr]
    minimums: Sequence[Expr]

    @staticmethod
    def unpack(rounded: Rounded, weight: GroupWeight, rows: Rows, g: Expr) -> _Group:
        """Emit the loads."""
        codes = {
            (digit, column): [weight.codes(block, g, c, v, nibble) for block, v in rows]
            for c, digit in product(range(weight.part.chunks), range(weight.digits))
            for nibble, column in weight.operands(digit, c)
        }
        scales = [weight.scale(block, g, v) for block, v in rows]
        has_minimum = weight.part.scheme.has_minimum
        minimums = [weight.minimum(block, g, v) for block, v in rows] if has_minimum else []
        return _Group(rounded, weight, g, codes, scales, minimums)

    def add_to(self, sums: Buffer, m: Expr, first: int) -> None:
        """Add what the group's columns are to the results of token m, from column `first` on."""
        lanes, at = self.weight.isa.lanes, (m, self.g)
        places = [(m, i64(first + i * lanes)) for i in range(len(self.scales))]

        def add(place: tuple[Expr, Expr], value: Expr) -> None:
            store(sums, place, value + load(sums, place, lanes), lanes)

        dots, step = self._dots(m), bind(splat(self.rounded.scale[at], lanes))
        for place, dot, scale in zip(places, dots, self.scales, strict=True):
            add(place, T.Cast(vtype("float32", lanes), dot) * (scale * step))
        if self.minimums:
            activations = bind(splat(self.rounded.sums[at], lanes))
            for place, minimum in zip(places, self.minimums, strict=True):
                add(place, minimum * activations)

    def _dots(self, m: Expr) -> list[Expr]:
        """The integer sums of token m, one vector for each of rows.

        There is one for each term of the activations and digit of the codes, a stage, which counts
        2^shift times as much as the next. So no sum waits for another.
        """
        lanes, digits = self.weight.isa.lanes, self.weight.digits
        stages = list(product(range(self.rounded.terms), range(digits)))
        starts = [[splat(i32(0), lanes)] * len(self.scales) for _ in stages]
        if self.weight.offset:
            start = self.rounded.starts[self.weight.offset][m, self.g]
            starts[-1] = [bind(splat(start, lanes))] * len(self.scales)
        totals, *others = self._add_products(starts, stages, m)
        shift = splat(i32(8 // digits), lanes)
        for other in others:
            pairs = zip(totals, other, strict=True)
            totals = [bind(T.shift_left(high, shift) + low) for high, low in pairs]
        return totals

    def _add_products(
        self, totals: list[list[Expr]], stages: Sequence[tuple[int, int]], m: Expr
    ) -> list[list[Expr]]:
        """`totals` of some stages and their products, by stage."""
        dot, columns = self.weight.isa.dot, [*dict.fromkeys(column for _, column in self.codes)]
        at_once = dot.capacity(self.weight.largest)
        for i in range(0, len(columns), at_once):
            sums = [[dot.sum(total) for total in stage] for stage in totals]
            for column in columns[i : i + at_once]:
                terms = range(self.rounded.terms)
                words = [bind(self.rounded.word(self.g, m, term, column)) for term in terms]
                for (term, digit), found in zip(stages, sums, strict=True):
                    for total, code in zip(found, self.codes[digit, column], strict=True):
                        dot.add(total, code, words[term])
            totals = [
                [dot.finish(total.get(), start) for total, start in zip(*stage, strict=True)]
                for stage in zip(sums, totals, strict=True)
            ]
        return totals
