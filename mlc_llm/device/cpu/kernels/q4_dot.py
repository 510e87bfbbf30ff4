"""4-bit linear layers on dot products of bytes. Layout of the weights: see `q4_linear.py`.

Activations are rounded to one byte ("a8") or two ("a16"), x ~ v * d (`rounding.py`). A lane is a
row. The sum of a group, exact in 32 bits and below 2^24, starts at -7 * sum(v), and

    y[r] += sum[r] * (S[r] * d)

in float32. A vector of packed weights is four bytes each of some rows: the lower nibbles are their
codes of k = 4c .. 4c+3, the upper ones those that are 16 further. How a code and an activation are
multiplied is the instruction set's (`dot.py`), and so is how many tokens go through the body
together, so that a nibble is unpacked once for all of them. Tokens go in chunks, whose bytes stay
in the cache while the weights pass by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import ROWS, block_count, group_count
from .isa import Isa
from .output import Output
from .rounding import TERMS, Rounded
from .rows import RowsOf
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    i32,
    i64,
    kernel,
    load,
    load_f32,
    load_half,
    parallel,
    prefetch,
    serial,
    size,
    splat,
    vtype,
    when,
)

CHUNK = 128  # tokens rounded at a time
_PREFETCH = 8  # groups of a block that are asked for ahead: 2 KB of codes


@dataclass(frozen=True)
class _Weight:
    """The packed weight, read in vectors of rows."""

    codes: Buffer
    scales: Buffer
    isa: Isa

    def packed(self, block: Expr, g: Expr, c: int, v: int) -> Expr:
        """The bytes c of vector v of a block, two codes each."""
        at = (block, g, i64(c), i64(4 * self.isa.lanes * v))
        return bind(load(self.codes, at, 4 * self.isa.lanes))

    def unpack(self, packed: Expr, half: int) -> Expr:
        """A code a byte: the lower nibbles or the upper ones."""
        lanes = 4 * self.isa.lanes
        if half:
            return bind(T.shift_right(packed, splat(T.uint8(4), lanes)))
        return bind(packed & splat(T.uint8(15), lanes))

    def scale(self, block: Expr, g: Expr, v: int) -> Expr:
        """The scales of vector v of a block, in float32."""
        at = (block, g, i64(self.isa.lanes * v))
        widen = load_f32 if self.isa.half or self.scales.dtype == "float32" else load_half
        return bind(widen(self.scales, at, self.isa.lanes))

    def prefetch(self, block: Expr, g: Expr) -> None:
        """Ask for the codes and scales that are read soon."""
        ahead = g + _PREFETCH
        for c in range(4):
            prefetch(self.codes, (block, ahead, i64(c), i64(0)))
        prefetch(self.scales, (block, ahead, i64(0)))


def q4_linear_dot(
    n: int | None,
    k: int,
    m: int | None,
    scale_dtype: str,
    x_dtype: str,
    out_dtype: str,
    isa: Isa,
    activations: str,
    rows: RowsOf,
    residual: bool,
) -> PrimFunc:
    """`q4_linear`, whose arguments these are."""
    groups, terms = group_count(k), TERMS[activations]
    # Two streams of weights for one token, two vectors of rows at least for many.
    together = 2 if m == 1 else max(1, 2 * isa.lanes // ROWS)
    with kernel(f"q4_linear_{isa.name}_{activations}") as built:
        tokens = size(m)
        blocks = size(None if n is None else block_count(n))
        x = rows.arguments(tokens, k, x_dtype)
        w = argument("w", (blocks, groups, 4, 4 * ROWS), "uint8")
        s = argument("s", (blocks, groups, ROWS), scale_dtype)
        y = Output.arguments(tokens, blocks, n, out_dtype, residual)
        weight, steps = _Weight(w, s, isa), T.truncdiv(blocks, i64(together))
        if m == 1:
            rounded = Rounded.allocate(1, 1, groups, terms, isa)
            rounded.round_row(x, i64(0), i64(0))
            with parallel(steps) as i:
                _multiply(rounded, weight, y, i * together, together, i64(0), i64(0))
        else:
            rounded = Rounded.allocate(CHUNK, isa.tile, groups, terms, isa)
            with serial(ceil_div(tokens, CHUNK)) as chunk:
                first = bind(chunk * CHUNK)
                here = bind(T.min(tokens - first, i64(CHUNK)))
                with parallel(here) as row:
                    rounded.round_row(x, bind(first + row), row)
                with parallel(steps) as i, serial(ceil_div(here, isa.tile)) as t:
                    _multiply(rounded, weight, y, i * together, together, t, first)
    return built.get()


def _multiply(
    rounded: Rounded,
    weight: _Weight,
    y: Output,
    block: Expr,
    together: int,
    t: Expr,
    first: Expr,
) -> None:
    """Write tile t of the tokens from `first` on: the rows of the blocks from `block` on."""
    lanes, per_block = weight.isa.lanes, ROWS // weight.isa.lanes
    blocks = [bind(block + b) for b in range(together)]
    rows = [(b, v) for b in blocks for v in range(per_block)]
    sums = [[Accumulator(lanes) for _ in rows] for _ in range(rounded.tile)]
    with serial(weight.codes.shape[1]) as g:
        if rounded.tile == 1:
            for b in blocks:
                weight.prefetch(b, g)
        dots = _dots(rounded, weight, rows, t, g)
        scales = [weight.scale(b, g, v) for b, v in rows]
        for m in range(rounded.tile):
            scale = bind(splat(rounded.scale[t, g, i64(m)], lanes))
            for total, dot, row_scale in zip(sums[m], dots[m], scales, strict=True):
                total.add(T.Cast(vtype("float32", lanes), dot) * (row_scale * scale))
    for m in range(rounded.tile):
        token = bind(first + t * rounded.tile + m)
        with when(token < y.tokens):
            for i, b in enumerate(blocks):
                values = [total.get() for total in sums[m][i * per_block : (i + 1) * per_block]]
                y.store(token, b, values)


def _dots(
    rounded: Rounded, weight: _Weight, rows: Sequence[tuple[Expr, int]], t: Expr, g: Expr
) -> list[list[Expr]]:
    """The int32 sums of group g: by token, by vector of rows (block, place in the block).

    A term counts 256 times as much as the next. Each begins at 256 times the sum of those before,
    so that sums take no more registers than with one term. But where the sums are so few that they
    would wait for themselves, terms do not wait for each other, and are added in the end.
    """
    lanes, last = weight.isa.lanes, rounded.terms - 1
    zero, eight = splat(i32(0), lanes), splat(i32(8), lanes)
    few = len(rows) * rounded.tile < weight.isa.dot.chains
    totals = [[zero for _ in rows] for _ in range(rounded.tile)]
    for term in range(rounded.terms):
        before = [[bind(T.shift_left(total, eight)) for total in token] for token in totals]
        starts = [[zero for _ in rows] for _ in range(rounded.tile)]
        if term == last:
            biases = [bind(splat(rounded.bias[t, g, i64(m)], lanes)) for m in range(rounded.tile)]
            starts = [[bias for _ in rows] for bias in biases]
        if few:
            totals = _plus(before, _add_products(starts, term, rounded, weight, rows, t, g))
        else:
            totals = _add_products(_plus(before, starts), term, rounded, weight, rows, t, g)
    return totals


def _plus(some: list[list[Expr]], others: list[list[Expr]]) -> list[list[Expr]]:
    """The sums of two, by token, by vector of rows."""
    return [
        [bind(a + b) for a, b in zip(*token, strict=True)]
        for token in zip(some, others, strict=True)
    ]


def _add_products(
    totals: list[list[Expr]],
    term: int,
    rounded: Rounded,
    weight: _Weight,
    rows: Sequence[tuple[Expr, int]],
    t: Expr,
    g: Expr,
) -> list[list[Expr]]:
    """`totals` and the products of group g with one term of the activations."""
    dot = weight.isa.dot
    sums = [[dot.sum(total) for total in token] for token in totals]
    for c in range(4):
        packed = [weight.packed(block, g, c, v) for block, v in rows]
        for half in range(2):
            codes = [weight.unpack(nibbles, half) for nibbles in packed]
            for m in range(rounded.tile):
                word = bind(rounded.word(t, g, m, term, half, c))
                for total, code in zip(sums[m], codes, strict=True):
                    dot.add(total, code, word)
    return [
        [dot.finish(total.get(), start) for total, start in zip(*token, strict=True)]
        for token in zip(sums, totals, strict=True)
    ]
