"""Activations as bytes: one scale for a group of 32, and one or two terms.

The activations x of a group become integers v with one scale d = max|x| / limit, x ~ v * d:

    "a8"     limit 127    v is a byte
    "a16"    limit 32512  v = 256 * high + low, two bytes: high in -127 .. 127, low in -128 .. 127

so that |x - v * d| is at most max|x| / 254 or max|x| / 65024. `bias` is -7 * sum(v): the codes of
the weights have an offset of 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T

from .blocks import GROUP, group_count
from .isa import Isa
from .rows import Rows
from .vector import (
    Buffer,
    Expr,
    bind,
    f32,
    fold_max,
    i32,
    i64,
    load,
    rounded_bits,
    scratch,
    serial,
    splat,
    store,
    vtype,
)

TERMS = {"a8": 1, "a16": 2}
_LIMIT = {1: 127, 2: 127 * 256}
_ROUNDER_BITS = 0x4B400000  # of the float ROUNDER


@dataclass(frozen=True)
class Rounded:
    """Rounded activations of some tokens, interleaved in tiles of `tile` tokens.

    values (tiles, groups, tile, terms, 32) int8, the high bytes first; scale float32 and bias
    int32, both (tiles, groups, tile).
    """

    tile: int
    terms: int
    isa: Isa
    values: Buffer
    scale: Buffer
    bias: Buffer

    @staticmethod
    def allocate(tokens: int, tile: int, groups: int, terms: int, isa: Isa) -> Rounded:
        """Working memory for `tokens`, a multiple of `tile`."""
        shape = (tokens // tile, groups, tile)
        values = scratch((*shape, terms, GROUP), "int8")
        return Rounded(tile, terms, isa, values, scratch(shape), scratch(shape, "int32"))

    def round_row(self, x: Rows, token: Expr, row: Expr) -> None:
        """Round x[token] as row `row`; what its last group lacks counts as 0."""
        groups, lanes = group_count(x.k), self.isa.lanes
        if x.k % GROUP:
            padded = scratch((1, groups * GROUP))
            x.copy(token, padded, i64(0), lanes)
            x, token = Rows.plain(padded), i64(0)
        read = x.reader(token, lanes)
        t, m = bind(T.truncdiv(row, i64(self.tile))), bind(T.truncmod(row, i64(self.tile)))
        with serial(groups) as g:
            parts = range(0, GROUP, lanes)
            self._put((t, g, m), [bind(read(g * GROUP + p, lanes)) for p in parts])

    def _put(self, at: tuple[Expr, ...], x: Sequence[Expr]) -> None:
        lanes, limit = self.isa.lanes, _LIMIT[self.terms]
        largest = T.fabs(x[0])
        for part in x[1:]:
            largest = bind(T.max(largest, T.fabs(part)))
        top = bind(fold_max(largest, lanes))
        inverse = bind(splat(T.Select(top > f32(0), f32(limit) / top, f32(0)), lanes))
        v = [bind(_nearest(part * inverse, lanes)) for part in x]
        for i, part in enumerate(v):
            for term, byte in enumerate(self._bytes(part)):
                value = T.Cast(vtype("int8", lanes), byte)
                store(self.values, (*at, i64(term), i64(i * lanes)), value, lanes)
        total = v[0]
        for part in v[1:]:
            total = bind(total + part)
        total = T.call_llvm_pure_intrin("int32", f"llvm.vector.reduce.add.v{lanes}i32", total)
        T.buffer_store(self.scale, top * f32(1 / limit), list(at))
        T.buffer_store(self.bias, total * -7, list(at))

    def _bytes(self, v: Expr) -> list[Expr]:
        """The terms of int32 lanes, the high ones first."""
        if self.terms == 1:
            return [v]
        lanes = self.isa.lanes
        eight = splat(i32(8), lanes)
        high = bind(T.shift_right(v + splat(i32(128), lanes), eight))
        return [high, v - T.shift_left(high, eight)]

    def word(self, t: Expr, g: Expr, m: int, term: int, half: int, c: Expr) -> Expr:
        """The four activations of k = 16 * half + 4 * c on, in every 32-bit lane."""
        at, lanes = (t, g, i64(m), i64(term)), self.isa.lanes
        if self.isa.by_lane:
            words = load(self.values, (*at, i64(16 * half)), 16)
            return T.Shuffle([bind(T.reinterpret("int32x4", words))], [c] * lanes)
        four = load(self.values, (*at, 4 * i64(c) + 16 * half), 4)
        return splat(T.reinterpret("int32", four), lanes)


def _nearest(x: Expr, lanes: int) -> Expr:
    """The nearest integers, as int32 lanes; abs(x) is below 2^22."""
    return rounded_bits(x, lanes) - splat(i32(_ROUNDER_BITS), lanes)
