"""Activations as bytes: one scale for a group, and one or two terms.

The activations x of a group become integers v with one scale d = max|x| / limit, x ~ v * d:

    "a8"     limit 127    v is a byte
    "a16"    limit 32512  v = 256 * high + low, two bytes: high in -127 .. 127, low in -128 .. 127

so that |x - v * d| is at most max|x| / 254 or max|x| / 65024. With them is kept what sum(v) is
needed for: -offset * sum(v), where the codes of a weight have an offset, and d * sum(v), by which
the minimums of a weight are multiplied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import IntImm

from .isa import Isa
from .rows import InputRows
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
    """Rounded activations of some tokens, those of one group side by side.

    values (groups, tokens, terms, group) int8, the high bytes first. All others are (tokens,
    groups), so that no two threads write to one cache line: the scales d float32; by offset,
    `starts` -offset * sum(v) int32; `sums` d * sum(v) float32, or None if no weight with minimums
    is multiplied.
    """

    group: int
    terms: int
    isa: Isa
    values: Buffer
    scale: Buffer
    starts: Mapping[int, Buffer]
    sums: Buffer

    @staticmethod
    def allocate(
        tokens: Expr | int,
        groups: int,
        group: int,
        terms: int,
        isa: Isa,
        offsets: Iterable[int],
        minimums: bool,
    ) -> Rounded:
        """Working memory.

        Args:
            tokens: how many there is room for.
            groups: groups of a row.
            group: activations of a group, a multiple of 8.
            terms: bytes of an activation.
            isa: what the CPU offers.
            offsets: of the codes of the weights that are multiplied.
            minimums: whether one of the weights has minimums.
        """
        shape = (tokens, groups)
        values, scale = scratch((groups, tokens, terms, group), "int8"), scratch(shape)
        starts = {offset: scratch(shape, "int32") for offset in sorted(set(offsets)) if offset}
        sums = scratch(shape) if minimums else None
        return Rounded(group, terms, isa, values, scale, starts, sums)

    @property
    def room(self) -> Expr | int:
        """How many tokens there is room for; an `int` where it is known."""
        room = self.scale.shape[0]
        return int(room) if isinstance(room, IntImm) else room

    @property
    def _lanes(self) -> int:
        return gcd(self.isa.lanes, self.group)

    def round_row(self, x: InputRows, token: Expr, row: Expr) -> None:
        """Round x[token] as row `row`; what its last group lacks counts as 0.

        A row whose last group lacks something, or whose vectors are made side by side, is written
        to memory before.
        """
        groups, lanes = int(self.values.shape[0]), self._lanes
        if x.k % self.group or x.kind.together > 1:
            made = scratch((1, groups * self.group))
            x.copy(token, made, i64(0), self.isa.lanes)
            x, token = InputRows.plain(made), i64(0)
        read = x.reader(token, self.isa.lanes)
        with serial(groups) as g:
            parts = range(0, self.group, lanes)
            self._put(row, g, [bind(read(g * self.group + p, lanes)) for p in parts])

    def _put(self, row: Expr, g: Expr, x: Sequence[Expr]) -> None:
        lanes, limit = self._lanes, _LIMIT[self.terms]
        largest = T.fabs(x[0])
        for part in x[1:]:
            largest = bind(T.max(largest, T.fabs(part)))
        top = bind(fold_max(largest, lanes))
        inverse = bind(splat(T.Select(top > f32(0), f32(limit) / top, f32(0)), lanes))
        v = [bind(_nearest(part * inverse, lanes)) for part in x]
        for i, part in enumerate(v):
            for term, byte in enumerate(self._bytes(part)):
                value = T.Cast(vtype("int8", lanes), byte)
                store(self.values, (g, row, i64(term), i64(i * lanes)), value, lanes)
        step = bind(top * f32(1 / limit))
        T.buffer_store(self.scale, step, [row, g])
        self._put_sum([row, g], v, step)

    def _put_sum(self, at: list[Expr], v: Sequence[Expr], step: Expr) -> None:
        total = v[0]
        for part in v[1:]:
            total = bind(total + part)
        intrinsic = f"llvm.vector.reduce.add.v{self._lanes}i32"
        total = bind(T.call_llvm_pure_intrin("int32", intrinsic, total))
        for offset, starts in self.starts.items():
            T.buffer_store(starts, total * -offset, at)
        if self.sums is not None:
            T.buffer_store(self.sums, T.Cast("float32", total) * step, at)

    def _bytes(self, v: Expr) -> list[Expr]:
        """The terms of int32 lanes, the high ones first."""
        if self.terms == 1:
            return [v]
        lanes = self._lanes
        eight = splat(i32(8), lanes)
        high = bind(T.shift_right(v + splat(i32(128), lanes), eight))
        return [high, v - T.shift_left(high, eight)]

    def word(self, g: Expr, m: Expr, term: int, first: int) -> Expr:
        """The four activations from number `first` of a group on, in every 32-bit lane."""
        at, lanes = (g, m, i64(term)), self.isa.lanes
        if self.isa.by_lane and self.group >= 16:
            start = min(first // 16 * 16, self.group - 16)
            words = load(self.values, (*at, i64(start)), 16)
            return T.Shuffle(
                [bind(T.reinterpret("int32x4", words))], [(first - start) // 4] * lanes
            )
        four = load(self.values, (*at, i64(first)), 4)
        return splat(T.reinterpret("int32", four), lanes)


def _nearest(x: Expr, lanes: int) -> Expr:
    """The nearest integers, as int32 lanes; abs(x) is below 2^22."""
    return rounded_bits(x, lanes) - splat(i32(_ROUNDER_BITS), lanes)
