"""The gated activation of Llama's feed-forward layer: silu(gate) * up, silu(x) = x / (1 + e^-x).

In float32: where e^-x overflows to infinity, the quotient is 0, as it should be.
"""

from __future__ import annotations

from functools import cache

from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from .launch import argument, bind, ceil_div, f32, i32, kernel, launch, load_f32, size, store, when


@cache
def silu_mul(columns: int, dtype: str, threads: int) -> PrimFunc:
    """Arguments of the kernel: x (m, 2 f) holding gate then up, y (m, f); both `dtype`."""
    with kernel("silu_mul") as built:
        rows = size()
        x = argument("x", (rows, 2 * columns), dtype)
        y = argument("y", (rows, columns), dtype)
        with launch([ceil_div(size(columns), threads), rows], threads) as ((part, row), thread):
            j = bind(part * i32(threads) + thread)
            with when(j < i32(columns)):
                gate = bind(load_f32(x, (row, j)))
                up = load_f32(x, (row, j + i32(columns)))
                store(y, (row, j), gate / (f32(1.0) + T.exp(-gate)) * up)
    return built.get()
