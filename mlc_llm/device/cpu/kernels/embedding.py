"""Token embeddings from the packed layouts of the linear layers, which a tied output layer shares.

A row of the table is a row of the packed weight: block id // 16, lane id % 16 (`q4_linear.py`,
`float_linear.py`). The result is exact up to its own dtype: one product per element.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import GROUP, ROWS, group_count
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
def q4_embedding(k: int, scale_dtype: str, out_dtype: str) -> PrimFunc:
    """out[m] = row ids[m] of a 4-bit table.

    Arguments of the kernel: ids (m,) int32, W (blocks, groups, 4, 64) uint8, S (blocks, groups, 16)
    `scale_dtype`, out (m, k) `out_dtype`; m and blocks are taken from the tensors.
    """
    groups, whole = group_count(k), k // GROUP
    with kernel("q4_embedding") as built:
        tokens, blocks = size(), size()
        ids = argument("ids", (tokens,), "int32")
        w = argument("w", (blocks, groups, 4, 64), "uint8")
        s = argument("s", (blocks, groups, ROWS), scale_dtype)
        out = argument("out", (tokens, k), out_dtype)

        def row(m: Expr) -> None:
            block, lane = _place(ids, m)
            with serial(whole) as g, serial(4) as c:
                for half, values in enumerate(_four(w, s, block, g, c, lane)):
                    store_f32(out, (m, g * GROUP + 4 * c + 16 * half), values, 4)
            for j in range(whole * GROUP, k):
                half, c, i = j % GROUP // 16, j % 16 // 4, j % 4
                values = bind(_four(w, s, block, i64(whole), i64(c), lane)[half])
                T.buffer_store(out, T.Cast(out_dtype, T.Shuffle([values], [i])), [m, i64(j)])

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
        packed = argument("packed", (blocks, k, ROWS), weight_dtype)
        out = argument("out", (tokens, k), out_dtype)

        def row(m: Expr) -> None:
            block, lane = _place(ids, m)
            with serial(k) as j:
                T.buffer_store(out, T.Cast(out_dtype, packed[block, j, lane]), [m, j])

        each_token(tokens, row)
    return built.get()


def _place(ids: Buffer, m: Expr) -> tuple[Expr, Expr]:
    token = bind(T.Cast("int64", ids[m]))
    return bind(T.truncdiv(token, i64(ROWS))), bind(T.truncmod(token, i64(ROWS)))


def _four(w: Buffer, s: Buffer, block: Expr, g: Expr, c: Expr, lane: Expr) -> list[Expr]:
    """The four weights from 4c on, and the four that are 16 further."""
    codes = bind(load(w, (block, g, c, lane * 4), 4))
    scale = bind(splat(T.Cast("float32", s[block, g, lane]), 4))
    low = codes & splat(T.uint8(15), 4)
    high = T.shift_right(codes, splat(T.uint8(4), 4))
    return [(T.Cast("float32x4", half) - splat(7.0, 4)) * scale for half in (low, high)]
