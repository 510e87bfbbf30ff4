"""y = x w^T on a stored weight: one kernel for one row of x, one for many.

A weight is dequantised where it is multiplied, and never stands in memory as floats. Sums are
float32 whatever the dtypes are.

`gemv`, one row: a workgroup makes ROWS outputs. Its threads take the units of the rows in turn, so
that the weight is read once and in whole cache lines, and x once for the ROWS; then they add up.

`matmul`, many rows: a workgroup makes a tile of TILE x TILE outputs, each thread SIDE x SIDE of
them. DEPTH columns of both matrices at a time are copied into the workgroup's memory.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .launch import (
    Buffer,
    Expr,
    argument,
    barrier,
    bind,
    ceil_div,
    f32,
    fill,
    i32,
    kernel,
    launch,
    load_f32,
    reduce,
    registers,
    serial,
    shared,
    size,
    store,
    strided,
    when,
)
from .weight import Tensors, Weight

ROWS = 4
"""Outputs of a workgroup of `gemv`."""

TILE, SIDE, DEPTH = 32, 4, 32
TILE_THREADS = (TILE // SIDE) ** 2
ROW = TILE + 1
"""A row of a tile in memory: one more, so that a column does not lie in one bank."""

TILE_BYTES = 2 * DEPTH * ROW * 4
"""Workgroup memory of `matmul`."""


@cache
def gemv(weight: Weight, outputs: int | None, dtype: str, out_dtype: str, threads: int) -> PrimFunc:
    """Arguments of the kernel: x (1, k) `dtype`, the weight's tensors, y (1, n) `out_dtype`.

    Args:
        weight: how the weight is stored.
        outputs: n; None takes it from the tensors.
        dtype: dtype of x.
        out_dtype: dtype of y.
        threads: threads of a workgroup, a power of two.
    """
    with kernel("gemv") as built:
        n = size(outputs)
        x = argument("x", (1, weight.columns), dtype)
        tensors = weight.arguments(n)
        y = argument("y", (1, n), out_dtype)
        with launch([ceil_div(n, ROWS)], threads) as ((block,), thread):
            scratch, sums = shared((ROWS, threads)), registers((ROWS,))
            first = bind(block * i32(ROWS))
            fill(sums, 0.0)
            with strided(thread, size(weight.units), threads) as unit:
                inputs = [bind(v) for v in _inputs(x, i32(0), weight, unit)]
                for r in range(ROWS):
                    # Rows past the end are computed as the last one, and not stored.
                    row = bind(T.min(first + i32(r), n - i32(1)))
                    store(sums, (i32(r),), sums[i32(r)] + _dot(tensors, row, unit, inputs))
            reduce(sums, scratch, thread, lambda a, b: a + b)
            for r in range(ROWS):
                with when(T.And(thread == i32(r), first + i32(r) < n)):
                    store(y, (i32(0), first + i32(r)), sums[i32(r)])
    return built.get()


def _inputs(x: Buffer, row: Expr, weight: Weight, unit: Expr) -> list[Expr]:
    """The elements of x that a unit is multiplied with, 0 past the row's end."""
    columns = [unit * i32(weight.unit) + i32(i) for i in range(weight.unit)]
    if not weight.ragged:
        return [load_f32(x, (row, column)) for column in columns]
    end = i32(weight.columns)
    return [
        T.if_then_else(column < end, load_f32(x, (row, T.min(column, end - i32(1)))), f32(0.0))
        for column in columns
    ]


def _dot(tensors: Tensors, row: Expr, unit: Expr, inputs: list[Expr]) -> Expr:
    values, factor = tensors.read(row, unit)
    total = values[0] * inputs[0]
    for value, x in zip(values[1:], inputs[1:], strict=True):
        total = total + value * x
    return total if factor is None else total * factor


@cache
def matmul(weight: Weight, outputs: int | None, dtype: str, out_dtype: str) -> PrimFunc:
    """Arguments of the kernel: x (m, k) `dtype`, the weight's tensors, y (m, n) `out_dtype`.

    A workgroup has TILE_THREADS threads and TILE_BYTES of memory. Arguments as of `gemv`.
    """
    with kernel("matmul") as built:
        m, n = size(), size(outputs)
        x = argument("x", (m, weight.columns), dtype)
        tensors = weight.arguments(n)
        y = argument("y", (m, n), out_dtype)
        grid = [ceil_div(n, TILE), ceil_div(m, TILE)]
        with launch(grid, TILE_THREADS) as ((right, down), thread):
            x_tile, w_tile = shared((DEPTH, ROW)), shared((DEPTH, ROW))
            sums = registers((SIDE * SIDE,))
            row, column = bind(down * i32(TILE)), bind(right * i32(TILE))
            fill(sums, 0.0)
            with serial(-(-weight.columns // DEPTH)) as step:
                begin = bind(step * i32(DEPTH))
                _copy_inputs(x, x_tile, row, m, begin, weight.columns, thread)
                _copy_weights(tensors, weight, w_tile, column, n, begin, thread)
                barrier()
                _multiply(x_tile, w_tile, sums, thread)
                barrier()
            _write(y, sums, row, m, column, n, thread)
    return built.get()


def _copy_inputs(
    x: Buffer, tile: Buffer, row: Expr, rows: Expr, begin: Expr, columns: int, thread: Expr
) -> None:
    """x[row + i, begin + k] to tile[k, i], 0 past the ends; neighbouring threads take one row."""
    with serial(TILE * DEPTH // TILE_THREADS) as turn:
        place = bind(turn * i32(TILE_THREADS) + thread)
        i, k = T.truncdiv(place, i32(DEPTH)), T.truncmod(place, i32(DEPTH))
        inside = T.And(row + i < rows, begin + k < i32(columns))
        at = (T.min(row + i, rows - i32(1)), T.min(begin + k, i32(columns - 1)))
        store(tile, (k, i), T.if_then_else(inside, load_f32(x, at), f32(0.0)))


def _copy_weights(
    tensors: Tensors,
    weight: Weight,
    tile: Buffer,
    row: Expr,
    rows: Expr,
    begin: Expr,
    thread: Expr,
) -> None:
    """w[row + i, begin + k] to tile[k, i]. What is past the ends meets zeros of x, or no output."""
    units = DEPTH // weight.unit
    with serial(TILE * units // TILE_THREADS) as turn:
        place = bind(turn * i32(TILE_THREADS) + thread)
        i, u = bind(T.truncdiv(place, i32(units))), bind(T.truncmod(place, i32(units)))
        unit = T.min(T.truncdiv(begin, i32(weight.unit)) + u, i32(weight.units - 1))
        values, factor = tensors.read(bind(T.min(row + i, rows - i32(1))), bind(unit))
        for j, value in enumerate(values):
            scaled = value if factor is None else value * factor
            store(tile, (u * i32(weight.unit) + i32(j), i), scaled)


def _multiply(x_tile: Buffer, w_tile: Buffer, sums: Buffer, thread: Expr) -> None:
    """Add the products of the tiles to a thread's own outputs."""
    down, right = (bind(place * i32(SIDE)) for place in _place(thread))
    with serial(DEPTH) as k:
        xs = [bind(x_tile[k, down + i32(i)]) for i in range(SIDE)]
        ws = [bind(w_tile[k, right + i32(j)]) for j in range(SIDE)]
        for i in range(SIDE):
            for j in range(SIDE):
                at = i32(i * SIDE + j)
                store(sums, (at,), sums[at] + xs[i] * ws[j])


def _write(
    y: Buffer, sums: Buffer, row: Expr, rows: Expr, column: Expr, columns: Expr, thread: Expr
) -> None:
    down, right = (bind(place * i32(SIDE)) for place in _place(thread))
    for i in range(SIDE):
        for j in range(SIDE):
            at = (row + down + i32(i), column + right + i32(j))
            with when(T.And(at[0] < rows, at[1] < columns)):
                store(y, at, sums[i32(i * SIDE + j)])


def _place(thread: Expr) -> tuple[Expr, Expr]:
    """A thread's row and column among the threads of a tile."""
    across = i32(TILE // SIDE)
    return T.truncdiv(thread, across), T.truncmod(thread, across)
