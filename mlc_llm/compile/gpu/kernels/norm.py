"""Root-mean-square normalisation, a workgroup for each row.

    y = x / sqrt(mean(x^2) + eps) * w

In float32; only the result is rounded to `dtype`.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .launch import (
    argument,
    bind,
    f32,
    fill,
    kernel,
    launch,
    load_f32,
    reduce,
    registers,
    shared,
    size,
    store,
    strided,
)


@cache
def rms_norm(columns: int, eps: float, weight_dtype: str, dtype: str, threads: int) -> PrimFunc:
    """Arguments of the kernel: x (m, k), w (k,) `weight_dtype`, y (m, k); the rest `dtype`."""
    with kernel("rms_norm") as built:
        rows = size()
        x = argument("x", (rows, columns), dtype)
        w = argument("w", (columns,), weight_dtype)
        y = argument("y", (rows, columns), dtype)
        with launch([rows], threads) as ((row,), thread):
            scratch, squares = shared((1, threads)), registers((1,))
            fill(squares, 0.0)
            with strided(thread, size(columns), threads) as j:
                value = bind(load_f32(x, (row, j)))
                store(squares, (0,), squares[0] + value * value)
            reduce(squares, scratch, thread, lambda a, b: a + b)
            factor = bind(T.rsqrt(squares[0] * f32(1.0 / columns) + f32(eps)))
            with strided(thread, size(columns), threads) as j:
                store(y, (row, j), load_f32(x, (row, j)) * factor * load_f32(w, (j,)))
    return built.get()
