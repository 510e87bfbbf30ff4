"""y = x w^T + b on a stored weight: one kernel for one row of x, one for many.

A weight is dequantised where it is multiplied, and never stands in memory as floats. Products,
sums and the bias are float32 whatever the dtypes are, so that an output differs from the exact one
of the stored weights by k units of roundoff of the sum of |x w| at most, for k columns, and by its
own rounding to `out_dtype`. (A weight with a minimum has two products, and k + 2.)

`gemv`, one row: a workgroup makes GEMV_OUTPUTS outputs. Its threads take the units of the rows in
turn, so that the weight is read once and in whole cache lines, and x once for all these outputs;
then they add up.

`matmul`, many rows: a workgroup makes a tile of TILE x TILE outputs, each thread SIDE x SIDE of
them. Some columns of both matrices at a time are copied into the workgroup's memory: whole units,
see `depth`.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities

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
    strided,
    when,
    write,
)
from .weight import KernelWeight, WeightTensors

GEMV_OUTPUTS = 4
"""Outputs of a workgroup of `gemv`."""

TILE, SIDE = 32, 4
TILE_THREADS = (TILE // SIDE) ** 2
TILE_PITCH = TILE + 1
"""A row of a tile in memory: one more, so that a column does not lie in one bank."""

LEAST_DEPTH = 32
"""Columns of a tile, where units divide it."""


@dataclass(frozen=True)
class Product:
    """y (m, n) = x (m, k) w^T + b, for w (n, k) and b (n,).

    Args:
        weight: how w is stored; k is its columns.
        outputs: n; None takes it from the tensors.
        dtype: dtype of x.
        out_dtype: dtype of y.
        bias: dtype of b; None for no bias.
    """

    weight: KernelWeight
    outputs: int | None
    dtype: str
    out_dtype: str
    bias: str | None = None


def depth(weight: KernelWeight) -> int:
    """Columns of a tile of `matmul`: whole units, and as many of them for each thread."""
    pair = 2 * weight.unit
    return -(-LEAST_DEPTH // pair) * pair


def tile_bytes(weight: KernelWeight) -> int:
    """Workgroup memory of `matmul`."""
    return 2 * depth(weight) * TILE_PITCH * 4


@dataclass(frozen=True)
class ProductArguments:
    """The arguments of a kernel of products; `bias` is None where it has none."""

    x: Buffer
    weight: WeightTensors
    bias: Buffer | None
    y: Buffer

    @staticmethod
    def declare(product: Product, rows: Expr, outputs: Expr) -> ProductArguments:
        """Declare them, in the kernels' order."""
        return ProductArguments(
            argument("x", (rows, product.weight.columns), product.dtype),
            product.weight.arguments(outputs),
            None if product.bias is None else argument("bias", (outputs,), product.bias),
            argument("y", (rows, outputs), product.out_dtype),
        )

    def write(self, row: Expr, column: Expr, total: Expr) -> None:
        """Write an output, given the sum of its products."""
        if self.bias is not None:
            total = total + load_f32(self.bias, (column,))
        write(self.y, (row, column), total)


@cache
def gemv(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """Arguments of the kernel: x (1, k), the weight's tensors, the bias if there is one, y (1, n).

    Args:
        product: what it computes.
        capabilities: what the GPU can do.
    """
    weight, threads = product.weight, capabilities.light
    with kernel("gemv") as built:
        n = size(product.outputs)
        given = ProductArguments.declare(product, i32(1), n)
        with launch([ceil_div(n, GEMV_OUTPUTS)], threads) as ((block,), thread):
            scratch, sums = shared((GEMV_OUTPUTS, threads)), registers((GEMV_OUTPUTS,))
            first = bind(block * i32(GEMV_OUTPUTS))
            fill(sums, 0.0)
            with strided(thread, size(weight.units), threads) as unit:
                inputs = [bind(v) for v in _inputs(given.x, i32(0), weight, unit)]
                total = bind(_sum(inputs)) if weight.scheme.has_minimum else None
                for r in range(GEMV_OUTPUTS):
                    # Rows past the end are computed as the last one, and not stored.
                    row = bind(T.min(first + i32(r), n - i32(1)))
                    dot = given.weight.read(row, unit).dot(inputs, total)
                    write(sums, (i32(r),), sums[i32(r)] + dot)
            reduce(sums, scratch, thread, lambda a, b: a + b)
            for r in range(GEMV_OUTPUTS):
                with when(T.And(thread == i32(r), first + i32(r) < n)):
                    given.write(i32(0), first + i32(r), sums[i32(r)])
    return built.get()


def _inputs(x: Buffer, row: Expr, weight: KernelWeight, unit: Expr) -> list[Expr]:
    """The elements of x that a unit is multiplied with, 0 past the row's end."""
    columns = [unit * i32(weight.unit) + i32(i) for i in range(weight.unit)]
    if not weight.ragged:
        return [load_f32(x, (row, column)) for column in columns]
    end = i32(weight.columns)
    return [
        T.if_then_else(column < end, load_f32(x, (row, T.min(column, end - i32(1)))), f32(0.0))
        for column in columns
    ]


def _sum(values: list[Expr]) -> Expr:
    return functools.reduce(operator.add, values)


@cache
def matmul(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """Arguments of the kernel: x (m, k), the weight's tensors, the bias if there is one, y (m, n).

    A workgroup has TILE_THREADS threads and `tile_bytes` of memory, which every GPU has.
    """
    with kernel("matmul") as built:
        m, n = size(), size(product.outputs)
        multiply_tiles(product, ProductArguments.declare(product, m, n), m, n)
    return built.get()


def multiply_tiles(product: Product, given: ProductArguments, m: Expr, n: Expr) -> None:
    """The launch of `matmul`: m rows of x, n of the weight."""
    weight, columns = product.weight, product.weight.columns
    grid = [ceil_div(n, TILE), ceil_div(m, TILE)]
    with launch(grid, TILE_THREADS) as ((right, down), thread):
        x_tile, w_tile = (shared((depth(weight), TILE_PITCH)) for _ in range(2))
        sums = registers((SIDE * SIDE,))
        row, column = bind(down * i32(TILE)), bind(right * i32(TILE))
        fill(sums, 0.0)
        with serial(-(-columns // depth(weight))) as step:
            begin = bind(step * i32(depth(weight)))
            _copy_inputs(given.x, x_tile, row, m, begin, columns, thread)
            _copy_weights(given.weight, weight, w_tile, column, n, begin, thread)
            barrier()
            _multiply(x_tile, w_tile, sums, thread)
            barrier()
        _write(given, sums, row, m, column, n, thread)


def _copy_inputs(
    x: Buffer, tile: Buffer, row: Expr, rows: Expr, begin: Expr, columns: int, thread: Expr
) -> None:
    """x[row + i, begin + k] to tile[k, i], 0 past the ends; neighbouring threads take one row."""
    width = int(tile.shape[0])
    with serial(TILE * width // TILE_THREADS) as turn:
        place = bind(turn * i32(TILE_THREADS) + thread)
        i, k = T.truncdiv(place, i32(width)), T.truncmod(place, i32(width))
        inside = T.And(row + i < rows, begin + k < i32(columns))
        at = (T.min(row + i, rows - i32(1)), T.min(begin + k, i32(columns - 1)))
        write(tile, (k, i), T.if_then_else(inside, load_f32(x, at), f32(0.0)))


def _copy_weights(
    tensors: WeightTensors,
    weight: KernelWeight,
    tile: Buffer,
    row: Expr,
    rows: Expr,
    begin: Expr,
    thread: Expr,
) -> None:
    """w[row + i, begin + k] to tile[k, i]. What is past the ends meets zeros of x, or no output."""
    units = depth(weight) // weight.unit
    with serial(TILE * units // TILE_THREADS) as turn:
        place = bind(turn * i32(TILE_THREADS) + thread)
        i, u = bind(T.truncdiv(place, i32(units))), bind(T.truncmod(place, i32(units)))
        unit = T.min(T.truncdiv(begin, i32(weight.unit)) + u, i32(weight.units - 1))
        read = tensors.read(bind(T.min(row + i, rows - i32(1))), bind(unit))
        for j, value in enumerate(read.weights()):
            write(tile, (u * i32(weight.unit) + i32(j), i), value)


def _multiply(x_tile: Buffer, w_tile: Buffer, sums: Buffer, thread: Expr) -> None:
    """Add the products of the tiles to a thread's own outputs."""
    down, right = (bind(place * i32(SIDE)) for place in _place(thread))
    with serial(int(x_tile.shape[0])) as k:
        xs = [bind(x_tile[k, down + i32(i)]) for i in range(SIDE)]
        ws = [bind(w_tile[k, right + i32(j)]) for j in range(SIDE)]
        for i in range(SIDE):
            for j in range(SIDE):
                at = i32(i * SIDE + j)
                write(sums, (at,), sums[at] + xs[i] * ws[j])


def _write(
    given: ProductArguments,
    sums: Buffer,
    row: Expr,
    rows: Expr,
    column: Expr,
    columns: Expr,
    thread: Expr,
) -> None:
    down, right = (bind(place * i32(SIDE)) for place in _place(thread))
    for i in range(SIDE):
        for j in range(SIDE):
            at = (row + down + i32(i), column + right + i32(j))
            with when(T.And(at[0] < rows, at[1] < columns)):
                given.write(*at, sums[i32(i * SIDE + j)])


def _place(thread: Expr) -> tuple[Expr, Expr]:
    """A thread's row and column among the threads of a tile."""
    across = i32(TILE // SIDE)
    return T.truncdiv(thread, across), T.truncmod(thread, across)
