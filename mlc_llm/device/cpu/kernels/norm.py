"""Root-mean-square normalisation.

    y = x / sqrt(mean(x^2) + eps) * w

All in float32; only the results are rounded to `dtype`. Error: that of a float32 sum of k squares,
below 1e-6 of |y|, and the rounding.
"""

from __future__ import annotations

from functools import cache
from math import gcd

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .isa import Isa
from .vector import (
    Accumulator,
    Buffer,
    Expr,
    argument,
    bind,
    f32,
    fold_sum,
    i64,
    kernel,
    load_f32,
    parallel,
    serial,
    size,
    splat,
    store_f32,
)


@cache
def rms_norm(k: int, eps: float, weight_dtype: str, dtype: str, isa: Isa) -> PrimFunc:
    """Arguments of the kernel: x (m, k), w (k,) `weight_dtype`, y (m, k); the rest `dtype`."""
    lanes = gcd(k, isa.lanes)
    with kernel("rms_norm") as built:
        rows = size()
        x = argument("x", (rows, k), dtype)
        w = argument("w", (k,), weight_dtype)
        y = argument("y", (rows, k), dtype)
        with parallel(rows) as m:
            _scale(x, w, y, m, rms_factor(x, m, k, eps, lanes), lanes)
    return built.get()


def rms_factor(x: Buffer, row: Expr, k: int, eps: float, lanes: int) -> Expr:
    """1 / sqrt(mean(x[row]^2) + eps)."""
    squares = Accumulator(lanes)
    with serial(k // lanes) as j:
        v = bind(load_f32(x, (row, j * lanes), lanes))
        squares.add(v * v)
    total = fold_sum(squares.get(), lanes)
    for j in range(k - k % lanes, k):
        v = bind(load_f32(x, (row, i64(j)), 1))
        total = bind(total + v * v)
    return bind(f32(1.0) / T.sqrt(total * f32(1.0 / k) + f32(eps)))


def _scale(x: Buffer, w: Buffer, y: Buffer, m: Expr, factor: Expr, lanes: int) -> None:
    with serial(int(x.shape[1]) // lanes) as j:
        value = load_f32(x, (m, j * lanes), lanes) * splat(factor, lanes)
        store_f32(y, (m, j * lanes), value * load_f32(w, (j * lanes,), lanes), lanes)
