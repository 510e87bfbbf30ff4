"""Linear layers with float32 or float16 weights; float32 arithmetic.

Stored: weight (n, k). Packed (once, at load): (blocks, k, 16), element [b, k, i] of row 16 * b + i,
so that 16 rows are 16 lanes; blocks is even (`float_blocks`) and rows past n are zeros.

One token: four interleaved sums a vector, added at the end. Many tokens: the packed blocks are the
panels of `panel.py`. Error: float32 roundings of a sum of k products, about 1e-6 of sum |w| |x|.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import ROWS, block_count, copy_row, store_block
from .isa import Isa
from .panel import CHUNK, multiply, panel_blocks
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    argument,
    bind,
    ceil_div,
    i64,
    kernel,
    load_f32,
    parallel,
    scratch,
    serial,
    size,
    splat,
)

_CHAINS = 4  # independent sums, to hide the latency of a multiply-add
float_blocks = block_count  # the number of blocks in the packed layout


@cache
def repack_float(n: int | None, k: int, dtype: str) -> PrimFunc:
    """The packed layout of a stored weight.

    Arguments of the kernel: weight (n, k), packed (blocks, k, 16), both `dtype`. With n = None the
    number of rows is taken from the tensor.
    """
    with kernel("repack_float") as built:
        rows = size(n)
        blocks = i64(float_blocks(n)) if n is not None else ceil_div(rows, 2 * ROWS) * 2
        weight = argument("weight", (rows, k), dtype)
        packed = argument("packed", (blocks, k, ROWS), dtype)
        zero = T.Cast(dtype, T.float32(0))
        with parallel(blocks) as b, serial(k) as j, serial(ROWS) as i:
            row = bind(b * ROWS + i)
            value = T.Select(row < rows, weight[T.min(row, rows - 1), j], zero)
            T.buffer_store(packed, value, [b, j, i])
    return built.get()


@cache
def float_linear(
    n: int | None,
    k: int,
    m: int | None,
    weight_dtype: str,
    x_dtype: str,
    out_dtype: str,
    isa: Isa,
) -> PrimFunc:
    """y = x @ weight.T.

    Arguments of the kernel: x (m, k) `x_dtype`, packed (blocks, k, 16) `weight_dtype`, y (m, n)
    `out_dtype`.

    Args:
        n: rows of the weight; None when only the packed tensor knows: y is then (m, 16 * blocks).
        k: columns of the weight.
        m: 1 for a single token, None for any number.
        weight_dtype: dtype of the weight.
        x_dtype: dtype of x.
        out_dtype: dtype of y.
        isa: what the CPU offers.

    Raises:
        ValueError: `m` is neither 1 nor None.
    """
    if m not in (1, None):
        raise ValueError(f"m must be 1 or None (any number of rows), not {m!r}")
    with kernel("float_linear") as built:
        tokens = size(m)
        blocks = size(None if n is None else float_blocks(n))
        x = argument("x", (tokens, k), x_dtype)
        w = argument("w", (blocks, k, ROWS), weight_dtype)
        y = argument("y", (tokens, blocks * ROWS if n is None else n), out_dtype)
        wide = panel_blocks(isa)
        if m == 1:
            row = scratch((1, k))
            copy_row(x, i64(0), k, row, i64(0), isa.lanes)
            with parallel(T.truncdiv(blocks, i64(wide))) as p:
                _one_token(row, w, y, bind(p * wide), n, isa)
        else:
            rows = scratch((CHUNK, k))
            with serial(ceil_div(tokens, CHUNK)) as chunk:
                first = bind(chunk * CHUNK)
                here = bind(T.min(tokens - first, i64(CHUNK)))
                with parallel(here) as i:
                    copy_row(x, first + i, k, rows, i, isa.lanes)
                with parallel(T.truncdiv(blocks, i64(wide))) as p:
                    _many_tokens(rows, here, w, y, first, bind(p * wide), n, isa)
    return built.get()


def _weights(w: Buffer, block: Expr, k: Expr, v: int, lanes: int) -> Expr:
    """Vector v of the weights at k, counted over consecutive blocks."""
    per_block = ROWS // lanes
    return load_f32(w, (block + v // per_block, k, i64(v % per_block * lanes)), lanes)


def _one_token(x: Buffer, w: Buffer, y: Buffer, block: Expr, n: int | None, isa: Isa) -> None:
    per_block, k = ROWS // isa.lanes, int(w.shape[1])
    wide = panel_blocks(isa) * per_block
    sums = [[Accumulator(isa.lanes) for _ in range(wide)] for _ in range(_CHAINS)]

    def multiply_add(at: Expr, chain: int) -> None:
        activation = bind(splat(x[i64(0), at], isa.lanes))
        for v in range(wide):
            sums[chain][v].add(_weights(w, block, at, v, isa.lanes) * activation)

    with serial(k // _CHAINS) as j:
        for chain in range(_CHAINS):
            multiply_add(j * _CHAINS + chain, chain)
    for j in range(k - k % _CHAINS, k):
        multiply_add(i64(j), j % _CHAINS)
    for b in range(wide // per_block):
        values = [
            (sums[0][v].get() + sums[1][v].get()) + (sums[2][v].get() + sums[3][v].get())
            for v in range(b * per_block, (b + 1) * per_block)
        ]
        store_block(y, i64(0), bind(block + b), values, n)


def _many_tokens(
    x: Buffer, tokens: Expr, w: Buffer, y: Buffer, first: Expr, block: Expr, n: int | None, isa: Isa
) -> None:
    def panel_row(k: Expr, v: int) -> Expr:
        return _weights(w, block, k, v, isa.lanes)

    multiply(panel_row, w.shape[1], x, tokens, y, first, block, n, isa)
