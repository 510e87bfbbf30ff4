"""Token embeddings from the packed layouts of the linear layers, which a tied output layer shares.

A row of the table is a row of the packed weight: block id // 16, lane id % 16 (`group_layout.py`,
`float_linear.py`). The result is as exact as float32 and its own dtype are: a product and, where
there are minimums, a sum per element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.plugin.scheme import Scheme

from .blocks import BLOCK_ROWS
from .group_layout import Factors, PackedTensors, Part
from .vector import (
    Buffer,
    Expr,
    argument,
    bind,
    each_token,
    i64,
    kernel,
    load,
    serial,
    size,
    splat,
    store_f32,
)


@cache
def group_embedding(scheme: Scheme, k: int, out_dtype: str) -> PrimFunc:
    """out[m] = row ids[m] of a table in groups.

    Arguments of the kernel: ids (m,) int32, the packed tensors, out (m, k) `out_dtype`; m and the
    number of blocks are taken from the tensors.
    """
    whole, group = k // scheme.group, scheme.group
    with kernel("group_embedding") as built:
        tokens, blocks = size(), size()
        ids = argument("ids", (tokens,), "int32")
        table = PackedTensors.arguments(Part(None, scheme), k, blocks)
        out = argument("out", (tokens, k), out_dtype)

        def row(m: Expr) -> None:
            block, lane = _place(ids, m)
            with serial(whole) as g:
                for column, values in _group(table, block, g, lane):
                    store_f32(out, (m, g * group + column), values, 4)
            if k > whole * group:
                for column, values in _group(table, block, i64(whole), lane):
                    _store_some(out, m, whole * group + column, values)

        each_token(tokens, row)
    return built.get()


@cache
def float_embedding(k: int, weight_dtype: str, out_dtype: str) -> PrimFunc:
    """out[m] = row ids[m] of a float table.

    Arguments of the kernel: ids (m,) int32, packed (blocks, k, 16) `weight_dtype`, out (m, k)
    `out_dtype`; m and blocks are taken from the tensors.
    """
    with kernel("float_embedding") as built:
        tokens, blocks = size(), size()
        ids = argument("ids", (tokens,), "int32")
        packed = argument("packed", (blocks, k, BLOCK_ROWS), weight_dtype)
        out = argument("out", (tokens, k), out_dtype)

        def row(m: Expr) -> None:
            block, lane = _place(ids, m)
            with serial(k) as j:
                T.buffer_store(out, T.Cast(out_dtype, packed[block, j, lane]), [m, j])

        each_token(tokens, row)
    return built.get()


def _place(ids: Buffer, m: Expr) -> tuple[Expr, Expr]:
    token = bind(T.Cast("int64", ids[m]))
    return bind(T.truncdiv(token, i64(BLOCK_ROWS))), bind(T.truncmod(token, i64(BLOCK_ROWS)))


def _group(table: PackedTensors, block: Expr, g: Expr, lane: Expr) -> Iterator[tuple[int, Expr]]:
    """Four weights of a row's group after the other, and the place of the first."""
    part, zero = table.part, table.part.scheme.zero
    scale, *minimums = (
        bind(splat(_factor(factors, block, g, lane), 4)) for factors in table.factors
    )
    bytes_of = [
        bind(load(table.codes, (block, g, i64(c), lane * 4), 4)) for c in range(part.all_chunks)
    ]
    for c in range(part.chunks):
        for column, codes in _codes(part, bytes_of, c):
            values = T.Cast("float32x4", codes)
            if zero is None:
                yield column, bind(values * scale + minimums[0])
            else:
                yield column, bind((values - splat(float(zero), 4)) * scale)


def _factor(factors: Factors, block: Expr, g: Expr, lane: Expr) -> Expr:
    lower = T.Cast("float32", factors.lower[block, g, lane])
    if factors.upper is None:
        return lower
    return lower * T.Cast("float32", factors.upper[block, factors.over(g), lane])


def _codes(part: Part, packed: Sequence[Expr], c: int) -> list[tuple[int, Expr]]:
    """The codes in bytes c, and their places in the group."""
    if not part.nibbles:
        return [(4 * c, packed[c])]
    low = packed[c] & splat(T.uint8(15), 4)
    high = T.shift_right(packed[c], splat(T.uint8(4), 4))
    if part.high_bits:
        low, high = low | _upper(part, packed, c, 0), high | _upper(part, packed, c, 1)
    return [(4 * c, low), (4 * c + part.scheme.group // 2, high)]


def _upper(part: Part, packed: Sequence[Expr], c: int, nibble: int) -> Expr:
    """The upper bits of codes, above those of a nibble."""
    chunk, first = part.high(c, nibble)
    bits = T.shift_right(packed[chunk], splat(T.uint8(first), 4))
    bits = bits & splat(T.uint8((1 << part.high_bits) - 1), 4)
    return T.shift_left(bits, splat(T.uint8(4), 4))


def _store_some(out: Buffer, m: Expr, column: int, values: Expr) -> None:
    """Write those of four values that are not past the last column."""
    left = int(out.shape[1]) - column
    if left >= 4:
        store_f32(out, (m, i64(column)), values, 4)
        return
    for i in range(left):
        value = T.Cast(out.dtype, T.Shuffle([values], [i]))
        T.buffer_store(out, value, [m, i64(column + i)])
