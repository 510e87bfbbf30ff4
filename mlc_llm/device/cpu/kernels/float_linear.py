"""Linear layers with float32 or float16 weights; float32 arithmetic.

Stored: weight (n, k). Packed (once, at load): (blocks, k, 16), element [b, k, i] of row 16 * b + i,
so that 16 rows are 16 lanes; blocks is even (`float_blocks`) and rows past n are zeros.

One token: several blocks at a time, so that sums do not wait for themselves. Many tokens: the
panels of `panel.py`, which are the packed blocks themselves, or a float32 copy of them where they
are float16. Either way an output is one sum over k in its order, the same to the bit. Error:
float32 roundings of a sum of k products, about 1e-6 of sum |w| |x|.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .blocks import BLOCK_ROWS, block_count, blocks_of
from .isa import Isa
from .output import Output
from .panel import PANEL_TOKENS, multiply, multiply_panel, panel_blocks
from .rows import PLAIN, RowKind
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
    load_half,
    parallel,
    prefetch,
    scratch,
    serial,
    size,
    splat,
    store_f32,
    when,
)

_SUMS = 8  # vectors of outputs of a token, to hide the latency of a multiply-add
_STEP = 4  # columns that an iteration takes
_LINE = 64  # bytes of a cache line
_AHEAD = 2048  # bytes from a load to its prefetch
float_blocks = block_count  # the number of blocks in the packed layout


@cache
def repack_float(n: int | None, k: int, dtype: str) -> PrimFunc:
    """The packed layout of a stored weight.

    Arguments of the kernel: weight (n, k), packed (blocks, k, 16), both `dtype`. With n = None the
    number of rows is taken from the tensor.
    """
    with kernel("repack_float") as built:
        rows = size(n)
        blocks = blocks_of(n, rows)
        weight = argument("weight", (rows, k), dtype)
        packed = argument("packed", (blocks, k, BLOCK_ROWS), dtype)
        zero = T.Cast(dtype, T.float32(0))
        with parallel(blocks) as b, serial(k) as j, serial(BLOCK_ROWS) as i:
            row = bind(b * BLOCK_ROWS + i)
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
    rows: RowKind = PLAIN,
    residual: bool = False,
    bias: str | None = None,
) -> PrimFunc:
    """y = x @ weight.T, x being made of the first arguments, and a bias and a residual added.

    Arguments of the kernel: x `x_dtype` and what else `rows` takes, packed (blocks, k, 16)
    `weight_dtype`, with `bias` one (n,) of that dtype, with `residual` one of y's shape and dtype,
    y (m, n) `out_dtype`.

    Args:
        n: rows of the weight; None when only the packed tensor knows: y is then (m, 16 * blocks),
            and 0 past the rows.
        k: columns of the weight.
        m: 1 for a single token, None for any number.
        weight_dtype: dtype of the weight.
        x_dtype: dtype of x.
        out_dtype: dtype of y.
        isa: what the CPU offers.
        rows: how the rows that are multiplied are made of x; see `rows.py`.
        residual: whether y is the sum of the products and a residual, an argument before y.
        bias: dtype of a bias; None for no bias.

    Raises:
        ValueError: `m` is neither 1 nor None.
    """
    if m not in (1, None):
        raise ValueError(f"m must be 1 or None (any number of rows), not {m!r}")
    with kernel("float_linear") as built:
        tokens = size(m)
        blocks = size(None if n is None else float_blocks(n))
        x = rows.arguments(tokens, k, x_dtype)
        w = argument("w", (blocks, k, BLOCK_ROWS), weight_dtype)
        y = Output.arguments(tokens, blocks, n, out_dtype, bias, residual)
        if m == 1:
            row = scratch((1, k))
            x.copy(i64(0), row, i64(0), isa.lanes)
            _one_token(row, w, y, isa)
        else:
            wide, copied = panel_blocks(isa), scratch((PANEL_TOKENS, k))
            with serial(ceil_div(tokens, PANEL_TOKENS)) as chunk:
                first = bind(chunk * PANEL_TOKENS)
                here = bind(T.min(tokens - first, i64(PANEL_TOKENS)))
                with parallel(here) as i:
                    x.copy(bind(first + i), copied, i, isa.lanes)
                with parallel(T.truncdiv(blocks, i64(wide))) as p:
                    _many_tokens(copied, here, w, y, first, bind(p * wide), isa)
    return built.get()


def _weights(w: Buffer, block: Expr, k: Expr, v: int, isa: Isa) -> Expr:
    """Vector v of a block's weights at k."""
    by_hand = w.dtype == "float16" and not isa.half
    return (load_half if by_hand else load_f32)(w, (block, k, i64(v * isa.lanes)), isa.lanes)


def _one_token(x: Buffer, w: Buffer, y: Output, isa: Isa) -> None:
    """All outputs, some blocks of rows at a time; what is left over goes in pairs of blocks."""
    together, blocks = max(2, _SUMS * isa.lanes // BLOCK_ROWS), w.shape[0]
    with parallel(ceil_div(blocks, together)) as task:
        first = bind(task * together)
        with when(first + together <= blocks):
            _blocks_of_one_token(x, w, y, first, together, isa)
        if together > 2:
            with when(first + together > blocks), serial(T.truncdiv(blocks - first, i64(2))) as i:
                _blocks_of_one_token(x, w, y, bind(first + i * 2), 2, isa)


def _blocks_of_one_token(
    x: Buffer, w: Buffer, y: Output, first: Expr, count: int, isa: Isa
) -> None:
    """The outputs of `count` blocks from `first` on."""
    per_block, k = BLOCK_ROWS // isa.lanes, int(w.shape[1])
    blocks = [bind(first + b) for b in range(count)]
    sums = [[Accumulator(isa.lanes) for _ in range(per_block)] for _ in blocks]

    def multiply_add(at: Expr) -> None:
        activation = bind(splat(x[i64(0), at], isa.lanes))
        for block, vectors in zip(blocks, sums, strict=True):
            for v, total in enumerate(vectors):
                total.add(_weights(w, block, at, v, isa) * activation)

    with serial(k // _STEP) as j:
        for block in blocks:
            _prefetch(w, block, j * _STEP)
        for step in range(_STEP):
            multiply_add(j * _STEP + step)
    for at in range(k - k % _STEP, k):
        multiply_add(i64(at))
    for block, vectors in zip(blocks, sums, strict=True):
        y.store(i64(0), block, [total.get() for total in vectors])


def _prefetch(w: Buffer, block: Expr, k: Expr) -> None:
    """Ask for what an iteration takes, some iterations ahead."""
    width = np.dtype(w.dtype).itemsize
    for byte in range(0, _STEP * BLOCK_ROWS * width, _LINE):
        prefetch(w, (block, k, i64((_AHEAD + byte) // width)))


def _many_tokens(
    x: Buffer, tokens: Expr, w: Buffer, y: Output, first: Expr, block: Expr, isa: Isa
) -> None:
    if w.dtype == "float32":

        def panel_row(k: Expr, v: int) -> Expr:
            return _weights(w, block + v // per_block, k, v % per_block, isa)

        per_block = BLOCK_ROWS // isa.lanes
        multiply(panel_row, w.shape[1], x, tokens, y, first, block, isa)
        return
    panel = scratch((w.shape[1], panel_blocks(isa) * BLOCK_ROWS))
    _widen(w, block, panel, isa)
    multiply_panel(panel, x, tokens, y, first, block, isa)


def _widen(w: Buffer, first: Expr, panel: Buffer, isa: Isa) -> None:
    """Convert the blocks of a panel to float32, once for all tokens."""
    with serial(panel.shape[0]) as k:
        for b in range(int(panel.shape[1]) // BLOCK_ROWS):
            for v in range(BLOCK_ROWS // isa.lanes):
                at = (k, i64(b * BLOCK_ROWS + v * isa.lanes))
                store_f32(panel, at, _weights(w, first + b, k, v, isa), isa.lanes)
