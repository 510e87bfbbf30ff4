"""Root-mean-square normalisation, alone or after the addition of a residual.

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
            squares = Accumulator(lanes)
            with serial(k // lanes) as j:
                v = bind(load_f32(x, (m, j * lanes), lanes))
                squares.add(v * v)
            _scale(x, w, y, m, _factor(squares, k, eps), lanes)
    return built.get()


@cache
def add_rms_norm(k: int, eps: float, weight_dtype: str, dtype: str, isa: Isa) -> PrimFunc:
    """sum = x + residual; y = the norm of sum.

    Arguments of the kernel: x (m, k), residual (m, k), w (k,) `weight_dtype`, sum (m, k), y (m, k);
    the rest `dtype`. The norm is of the sum as it is stored.
    """
    lanes = gcd(k, isa.lanes)
    with kernel("add_rms_norm") as built:
        rows = size()
        x = argument("x", (rows, k), dtype)
        residual = argument("residual", (rows, k), dtype)
        w = argument("w", (k,), weight_dtype)
        total = argument("sum", (rows, k), dtype)
        y = argument("y", (rows, k), dtype)
        with parallel(rows) as m:
            squares = Accumulator(lanes)
            with serial(k // lanes) as j:
                at = (m, j * lanes)
                store_f32(total, at, load_f32(x, at, lanes) + load_f32(residual, at, lanes), lanes)
                v = bind(load_f32(total, at, lanes))
                squares.add(v * v)
            _scale(total, w, y, m, _factor(squares, k, eps), lanes)
    return built.get()


def _factor(squares: Accumulator, k: int, eps: float) -> Expr:
    """1 / sqrt(mean + eps)."""
    mean = fold_sum(squares.get(), squares.lanes) * f32(1.0 / k)
    return bind(f32(1.0) / T.sqrt(mean + f32(eps)))


def _scale(x: Buffer, w: Buffer, y: Buffer, m: Expr, factor: Expr, lanes: int) -> None:
    with serial(int(x.shape[1]) // lanes) as j:
        value = load_f32(x, (m, j * lanes), lanes) * splat(factor, lanes)
        store_f32(y, (m, j * lanes), value * load_f32(w, (j * lanes,), lanes), lanes)
