"""y = x w^T + b on a stored weight: one kernel for one row of x, one for many.

What would follow a product in a kernel of its own is done before an output is written: a gated
activation, or the addition of a residual (see `Product`).

A weight is dequantised where it is multiplied, and never stands in memory as floats. Products,
sums and the bias are float32 whatever the dtypes are, so that a sum differs from the exact one of
the stored weights by k units of roundoff of the sum of |x w| at most, for k columns. (A weight with
a minimum has two products, and k + 2.) What follows is float32, too; an output is rounded once, to
`out_dtype`.

`gemv`, one row: a workgroup makes GEMV_SUMS sums. Its threads take the units of the rows in turn,
so that the weight is read once and in whole cache lines, and x once for all these sums; then they
add up.

`matmul`, many rows: a workgroup makes a tile of TILE x TILE sums, each thread SIDE x SIDE of them.
Some columns of both matrices at a time are copied into the workgroup's memory: whole units, see
`depth`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from mlc_llm.compile.gpu.capabilities import GPUCapabilities
from mlc_llm.model.layers import ActivationName

from .activation import FUNCTIONS
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
from .norm import RMSNormKind
from .weight import KernelWeight, WeightTensors

GEMV_SUMS = 4
"""Rows of the weight of a workgroup of `gemv`."""

TILE, SIDE = 32, 4
TILE_THREADS = (TILE // SIDE) ** 2
TILE_PITCH = TILE + 1
"""A row of a tile in memory: one more, so that a column does not lie in one bank."""

LEAST_DEPTH = 32
"""Columns of a tile, where units divide it."""


@dataclass(frozen=True)
class Product:
    """y (m, n) = x (m, k) w^T + b, for w (n, k) and b (n,), and what is done with it at once.

    Args:
        weight: how w is stored; k is its columns.
        outputs: n; None takes it from the tensors.
        dtype: dtype of x.
        out_dtype: dtype of y.
        bias: dtype of b; None for no bias.
        gate: a gated activation: w and b then have 2 n rows, and y is this function of the first n,
            times the others.
        residual: whether r (m, n), of `out_dtype`, is added.
        norm: an RMS norm that makes x of what is given, rounded to `dtype` as by a kernel of its
            own. The kernels here have none (see `folds_norm` of the table of makers).
    """

    weight: KernelWeight
    outputs: int | None
    dtype: str
    out_dtype: str
    bias: str | None = None
    gate: ActivationName | None = None
    residual: bool = False
    norm: RMSNormKind | None = None

    @property
    def parts(self) -> int:
        """Rows of w that an output is made of."""
        return 1 if self.gate is None else 2

    def weight_row(self, first: Expr, place: Expr, outputs: Expr) -> Expr:
        """The row of w that is read at a place: those of an output stand beside each other.

        Args:
            first: the output at place 0.
            place: the place.
            outputs: n. Past it, the rows are those of the last output.
        """
        output = T.min(first + T.truncdiv(place, i32(self.parts)), outputs - i32(1))
        return output + T.truncmod(place, i32(self.parts)) * outputs


def depth(weight: KernelWeight) -> int:
    """Columns of a tile of `matmul`: whole units, and as many of them for each thread."""
    pair = 2 * weight.unit
    return -(-LEAST_DEPTH // pair) * pair


def tile_bytes(weight: KernelWeight) -> int:
    """Workgroup memory of `matmul`."""
    return 2 * depth(weight) * TILE_PITCH * 4


@dataclass(frozen=True)
class ProductArguments:
    """The arguments of a kernel of products; None for those that it does not have."""

    product: Product
    x: Buffer
    norm: Buffer | None
    weight: WeightTensors
    bias: Buffer | None
    residual: Buffer | None
    y: Buffer

    @staticmethod
    def declare(product: Product, rows: Expr, outputs: Expr) -> ProductArguments:
        """Declare them, in the kernels' order."""
        k, weight_rows, norm = product.weight.columns, outputs * i32(product.parts), product.norm
        kind = ((rows, outputs), product.out_dtype)
        return ProductArguments(
            product,
            argument("x", (rows, k), product.dtype),
            None if norm is None else argument("norm", (k,), norm.weight_dtype),
            product.weight.arguments(weight_rows),
            None if product.bias is None else argument("bias", (weight_rows,), product.bias),
            argument("residual", *kind) if product.residual else None,
            argument("y", *kind),
        )

    def write(self, row: Expr, column: Expr, totals: Sequence[Expr]) -> None:
        """Write an output, given the sums of the rows that it is made of."""
        if self.bias is not None:
            width = self.y.shape[1]
            biases = [load_f32(self.bias, (column + i32(i) * width,)) for i in range(len(totals))]
            totals = [total + bias for total, bias in zip(totals, biases, strict=True)]
        value = totals[0]
        if self.product.gate is not None:
            value = FUNCTIONS[self.product.gate](bind(totals[0])) * totals[1]
        if self.residual is not None:
            value = load_f32(self.residual, (row, column)) + value
        write(self.y, (row, column), value)


@cache
def gemv(product: Product, capabilities: GPUCapabilities) -> PrimFunc:
    """Arguments of the kernel: x (1, k), the weight's tensors, the bias, the residual, y (1, n).

    Args:
        product: what it computes.
        capabilities: what the GPU can do.
    """
    weight, threads = product.weight, capabilities.light
    own = GEMV_SUMS // product.parts
    with kernel("gemv") as built:
        n = size(product.outputs)
        given = ProductArguments.declare(product, i32(1), n)
        with launch([ceil_div(n, own)], threads) as ((block,), thread):
            scratch, sums = shared((GEMV_SUMS, threads)), registers((GEMV_SUMS,))
            first = bind(block * i32(own))
            fill(sums, 0.0)
            with strided(thread, size(weight.units), threads) as unit:
                inputs = [bind(v) for v in _inputs(given.x, i32(0), weight, unit)]
                total = bind(_sum(inputs)) if weight.scheme.has_minimum else None
                for r in range(GEMV_SUMS):
                    row = bind(product.weight_row(first, i32(r), n))
                    dot = given.weight.read(row, unit).dot(inputs, total)
                    write(sums, (i32(r),), sums[i32(r)] + dot)
            reduce(sums, scratch, thread, lambda a, b: a + b)
            for r in range(own):
                with when(T.And(thread == i32(r), first + i32(r) < n)):
                    totals = [sums[i32(r * product.parts + i)] for i in range(product.parts)]
                    given.write(i32(0), bind(first + i32(r)), totals)
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
    """Arguments of the kernel: x (m, k), the weight's tensors, the bias, the residual, y (m, n).

    A workgroup has TILE_THREADS threads and `tile_bytes` of memory, which every GPU has.
    """
    with kernel("matmul") as built:
        m, n = size(), size(product.outputs)
        multiply_tiles(ProductArguments.declare(product, m, n), m, n)
    return built.get()


def multiply_tiles(given: ProductArguments, m: Expr, n: Expr) -> None:
    """The launch of `matmul`: m rows of x, n outputs of each."""
    weight, across = given.product.weight, TILE // given.product.parts
    columns = weight.columns
    grid = [ceil_div(n, across), ceil_div(m, TILE)]
    with launch(grid, TILE_THREADS) as ((right, down), thread):
        x_tile, w_tile = (shared((depth(weight), TILE_PITCH)) for _ in range(2))
        sums = registers((SIDE * SIDE,))
        row, column = bind(down * i32(TILE)), bind(right * i32(across))
        fill(sums, 0.0)
        with serial(-(-columns // depth(weight))) as step:
            begin = bind(step * i32(depth(weight)))
            _copy_inputs(given.x, x_tile, row, m, begin, columns, thread)
            _copy_weights(given, w_tile, column, n, begin, thread)
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
    given: ProductArguments, tile: Buffer, first: Expr, outputs: Expr, begin: Expr, thread: Expr
) -> None:
    """w[row at place i, begin + k] to tile[k, i].

    What is past the ends meets zeros of x, or no output.
    """
    product, weight = given.product, given.product.weight
    units = depth(weight) // weight.unit
    with serial(TILE * units // TILE_THREADS) as turn:
        place = bind(turn * i32(TILE_THREADS) + thread)
        i, u = bind(T.truncdiv(place, i32(units))), bind(T.truncmod(place, i32(units)))
        unit = T.min(T.truncdiv(begin, i32(weight.unit)) + u, i32(weight.units - 1))
        read = given.weight.read(bind(product.weight_row(first, i, outputs)), bind(unit))
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
    parts = given.product.parts
    down, right = (bind(place * i32(SIDE)) for place in _place(thread))
    first = bind(column + T.truncdiv(right, i32(parts)))
    for i in range(SIDE):
        for j in range(0, SIDE, parts):
            at = (row + down + i32(i), bind(first + i32(j // parts)))
            with when(T.And(at[0] < rows, at[1] < columns)):
                given.write(*at, [sums[i32(i * SIDE + j + part)] for part in range(parts)])


def _place(thread: Expr) -> tuple[Expr, Expr]:
    """A thread's row and column among the threads of a tile."""
    across = i32(TILE // SIDE)
    return T.truncdiv(thread, across), T.truncmod(thread, across)
