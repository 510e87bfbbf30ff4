"""4-bit linear layers in plain float32 vectors of any width. Layout: see `q4_linear.py`.

A packed word (four bytes of one row) holds eight codes: nibble p is k = 4c + p/2 for even p and
16 further for odd p. So 16 consecutive words, shifted by 4p and masked, are one k of 16 rows.

One token: for every group, sum = -7 * sum(x) + sum over k of x[k] * code[k], then y += scale * sum.
Many tokens: the block's weights become a panel of float32, (code - 7) * scale, which the register
tile of `panel.py` multiplies with all tokens. Error below 1e-6 of sum |w| |x| in both.
"""

from __future__ import annotations

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import GROUP, ROWS, block_count, copy_row, group_count, store_block
from .isa import Isa
from .panel import CHUNK, multiply_panel, panel_blocks
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    f32,
    fold_sum,
    i64,
    kernel,
    load,
    load_f32,
    parallel,
    scratch,
    serial,
    size,
    splat,
    store,
    vtype,
)


def q4_linear_portable(
    n: int | None,
    k: int,
    m: int | None,
    scale_dtype: str,
    x_dtype: str,
    out_dtype: str,
    isa: Isa,
) -> PrimFunc:
    """`q4_linear` for any CPU."""
    groups = group_count(k)
    with kernel("q4_linear") as built:
        tokens = size(m)
        blocks = size(None if n is None else block_count(n))
        x = argument("x", (tokens, k), x_dtype)
        w = argument("w", (blocks, groups, 4, 64), "uint8")
        s = argument("s", (blocks, groups, ROWS), scale_dtype)
        y = argument("y", (tokens, blocks * ROWS if n is None else n), out_dtype)
        if m == 1:
            row, bias = scratch((1, groups * GROUP)), scratch((groups,))
            copy_row(x, i64(0), k, row, i64(0), isa.lanes)
            _group_bias(row, bias, isa.lanes)
            with parallel(blocks) as block:
                _one_token(row, bias, w, s, y, block, n, isa.lanes)
        else:
            wide = panel_blocks(isa)
            rows = scratch((CHUNK, groups * GROUP))
            with serial(ceil_div(tokens, CHUNK)) as chunk:
                first = bind(chunk * CHUNK)
                here = bind(T.min(tokens - first, i64(CHUNK)))
                with parallel(here) as i:
                    copy_row(x, first + i, k, rows, i, isa.lanes)
                with parallel(T.truncdiv(blocks, i64(wide))) as p:
                    panel = scratch((groups * GROUP, wide * ROWS))
                    _unpack(w, s, bind(p * wide), wide, panel, isa.lanes)
                    multiply_panel(panel, rows, here, y, first, p * wide, n, isa)
    return built.get()


def _group_bias(x: Buffer, bias: Buffer, lanes: int) -> None:
    """bias[g] = -7 * sum of x in group g."""
    with serial(bias.shape[0]) as g:
        total = load(x, (i64(0), g * GROUP), lanes)
        for j in range(lanes, GROUP, lanes):
            total = total + load(x, (i64(0), g * GROUP + j), lanes)
        T.buffer_store(bias, fold_sum(total, lanes) * f32(-7), [g])


def _one_token(
    x: Buffer, bias: Buffer, w: Buffer, s: Buffer, y: Buffer, block: Expr, n: int | None, lanes: int
) -> None:
    parts = ROWS // lanes
    totals = [Accumulator(lanes) for _ in range(parts)]
    with serial(bias.shape[0]) as g:
        # Two chains of multiply-adds a vector hide the latency of one.
        even = [Accumulator(lanes, splat(bias[g], lanes)) for _ in range(parts)]
        odd = [Accumulator(lanes) for _ in range(parts)]
        with serial(4) as c:
            words = [bind(_words(w, block, g, c, v, lanes)) for v in range(parts)]
            for p in range(8):
                activation = splat(x[i64(0), g * GROUP + _k_of(c, p)], lanes)
                for v in range(parts):
                    (odd if p % 2 else even)[v].add(_codes(words[v], p, lanes) * activation)
        for v in range(parts):
            scale = load_f32(s, (block, g, i64(v * lanes)), lanes)
            totals[v].add(scale * (even[v].get() + odd[v].get()))
    store_block(y, i64(0), block, [total.get() for total in totals], n)


def _unpack(w: Buffer, s: Buffer, first: Expr, wide: int, panel: Buffer, lanes: int) -> None:
    """panel[k, i] = the weight of row 16 * first + i."""
    with serial(w.shape[1]) as g:
        for b in range(wide):
            for v in range(ROWS // lanes):
                scale = bind(load_f32(s, (first + b, g, i64(v * lanes)), lanes))
                with serial(4) as c:
                    words = bind(_words(w, first + b, g, c, v, lanes))
                    for p in range(8):
                        value = (_codes(words, p, lanes) - splat(7.0, lanes)) * scale
                        at = (g * GROUP + _k_of(c, p), i64(b * ROWS + v * lanes))
                        store(panel, at, value, lanes)


def _words(w: Buffer, block: Expr, g: Expr, c: Expr, v: int, lanes: int) -> Expr:
    """The packed words of `lanes` rows."""
    packed = load(w, (block, g, c, i64(4 * v * lanes)), 4 * lanes)
    return T.reinterpret(vtype("uint32", lanes), packed)


def _k_of(c: Expr, p: int) -> Expr:
    """The place within its group of nibble p of word c."""
    return 4 * c + (16 * (p % 2) + p // 2)


def _codes(words: Expr, p: int, lanes: int) -> Expr:
    """Nibble p of every word, as float32."""
    code = T.shift_right(words, splat(T.uint32(4 * p), lanes)) & splat(T.uint32(15), lanes)
    return T.Cast(vtype("float32", lanes), T.Cast(vtype("int32", lanes), code))
